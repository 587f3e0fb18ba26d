// Package pages hands out runs of pages from address space that is reserved
// once for the process, and leads from any address to what is known about its page.
//
//	arena       the reserved address space; addresses in it are never unmapped
//	page        4 KiB; its number counts from the arena's begin, and 0 is no page
//	system page what the system gives and takes back: 1, 4 or 16 pages (system.go)
//	block       2^order pages, aligned to their size, from a buddy allocator
//	run         any number of consecutive pages
//	owner       a number per page, set by whoever holds the page; 0 is nobody
//	descriptor  24 bytes per page, for whoever holds the run that begins there
//	bits        words for bitmaps that do not fit into a descriptor
//
// Owners, descriptors and bits lie out of band, so that an overflow in a page
// cannot damage them, in tables indexed by page number: from an address to its
// owner is one subtraction, one shift and one load.
//
// Blocks climb:
//
//  1. a free block that has memory behind it (warm), the smallest that is large enough;
//  2. a free block without memory (cold);
//  3. fresh address space, 4 MiB at a time, made usable in steps that grow to 64 MiB.
//
// Each is of the memory node that it was asked of, as long as address space is left (nodes.go).
//
// Freed pages keep their memory until Return gives it back to the system, or ReturnIdle
// does, of those that nobody has missed for a while, in whole huge pages.
// warm + in use == Mapped, exactly, by one bit for each page.
//
// One lock, pages_lock, guards all of it; nothing is taken under it. Whoever
// owns a run reads and writes its owner numbers and its descriptor without it.
//
// In -race builds, and where the system has no mmap that fits, the arena is Go
// memory: the race detector sees no other.
package pages
