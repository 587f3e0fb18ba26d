// Package bench compares allocators on one machine, in one run.
//
//	workload   what is done: a row of the table
//	allocator  what does it: a column; the first is what the others are compared with
//	cell       a workload on an allocator: a loop of direct calls, in the same shape for each
//	F          two assembly functions that only return, called in the same loop: the floor
//	block      one workload on all of its allocators, one after the other, with F before and behind
//	round      a block of each workload
//
// A process:
//
//  1. makes each cell and warms it, until it knows how many operations take as long as was asked for;
//  2. measures block after block, A B C A B C, so that whatever else the machine does hits all allocators;
//  3. drops the blocks before or behind which F was more than 15 % off its median,
//     and measures more until there are enough, or three times as many were tried.
//
// Where objects, code and stacks lie is chosen once for a process and can cost it
// its speed for life, so a run is several processes, one after the other, and the report gives
// the median of their medians, and the worst.
//
// A report is a table for people, or text for benchstat. docs/benchmarks.md says how to read it.
package bench
