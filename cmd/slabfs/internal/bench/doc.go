// Package bench compares allocators on one machine, in one run.
//
//	workload   what is done: a file of this package, and a row of the table, or a row for each size
//	allocator  what does it: a column; the others are compared with the first
//	heap       objects of one size on an allocator, in loops of direct calls; a bytesHeap is slices
//	cell       a row on an allocator
//	F          two assembly functions that only return, called in a loop: the floor of pair
//	block      one row on all of its allocators, one after the other, with F before and after
//	round      a block of each row
//
// A process:
//
//  1. makes each cell and warms it, until it knows how many operations take
//     the time asked for;
//  2. measures block after block, A B C A B C, so that a disturbance on the
//     machine hits all allocators;
//  3. drops the blocks with F more than 15 % off its undisturbed value before
//     or after them, and measures more until there are enough, or until it has
//     tried three times as many (twice as many for longer rows).
//
// It does so first for rows that take milliseconds, then for rows that take
// tenths of a second. At the end, and only in the first process, it measures
// rows that take seconds and much memory. The cells of one phase are destroyed
// before the next phase.
//
// The addresses of objects, code and stacks are fixed when a process starts,
// and unlucky ones make it slow for life. So a run is several processes, one after
// the other, and the report gives the median of their medians, and the worst.
//
// A report is a table for people, text for benchstat, JSON, or plots.
// docs/benchmarks.md says how to read it.
//
// To add an allocator, add an entry to columns (heaps.go). To add a workload,
// add one to allWorkloads.
package bench
