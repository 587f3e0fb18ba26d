// Package bench compares allocators on one machine, in one run.
//
//	workload   what is done: a file of this package, and a row of the table, or one for each size
//	allocator  what does it: a column; the first is what the others are compared with
//	heap       objects of one size on an allocator, by loops of direct calls; a bytesHeap is slices
//	cell       a row on an allocator
//	F          two assembly functions that only return, called in a loop: the floor of pair
//	block      one row on all of its allocators, one after the other, with F before and behind
//	round      a block of each row
//
// A process:
//
//  1. makes each cell and warms it, until it knows how many operations take as long as was asked for;
//  2. measures block after block, A B C A B C, so that whatever else the machine does hits all allocators;
//  3. drops the blocks before or behind which F was more than 15 % off its undisturbed value,
//     and measures more until there are enough, or three times as many were tried (two for what is longer).
//
// It does so first for rows of milliseconds, then for those of tenths of a second, and at last, in the
// first process only, for those of seconds and much memory; cells of one phase are gone in the next.
//
// Where objects, code and stacks lie is chosen once for a process and can cost it
// its speed for life, so a run is several processes, one after the other, and the report gives
// the median of their medians, and the worst.
//
// A report is a table for people, text for benchstat, JSON, or plots. docs/benchmarks.md says how to read it.
//
// A further allocator is an entry in columns (heaps.go), a further workload one in allWorkloads.
package bench
