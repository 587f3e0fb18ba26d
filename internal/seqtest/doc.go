// Package seqtest reads the machine code of restartable sequences, for the tests
// of the packages that have some. Running them finds most mistakes in their
// layout once in many hours; reading finds them each time.
//
//	descriptor  32 bytes, aligned to 32: version and flags 0, begin and length of the section, abort address
//	section     begins at the entry of its function, so that it arms inside; ends with the store that commits
//	way         what runs from the entry to the commit: the section without its jumps to the slow path
//	abort       where the kernel resumes a thread that it took out of the section
package seqtest
