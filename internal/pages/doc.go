// Package pages allocates runs of pages from address space that is reserved
// once for the process. For any address it finds the owner and the descriptor
// of the address's page.
//
//	arena        the reserved address space; addresses in it are never unmapped
//	page         4 KiB; pages are numbered from the arena's start, and 0 is no page
//	system page  what the system gives and takes back: 1, 4 or 16 pages (system.go)
//	block        2^order pages, aligned to their size, from a buddy allocator
//	run          any number of consecutive pages
//	owner        a number for each page, set by the page's holder; 0 is nobody
//	descriptor   24 bytes for each page, used by the holder of the run that begins there
//	bits         words for bitmaps that do not fit into a descriptor
//
// Owners, descriptors and bits lie out of band, in tables indexed by page
// number. An overflow in a page cannot damage them. The way from an address to
// its owner costs one subtraction, one shift and one load.
//
// A block comes from the first of these places that has one:
//
//  1. the free blocks with memory behind them (warm), the smallest that is
//     large enough;
//  2. the free blocks without memory (cold);
//  3. fresh address space, 4 MiB at a time, made usable in steps that grow to
//     64 MiB.
//
// As long as address space is left, the block is on the memory node that the
// caller asked for (nodes.go).
//
// Freed pages keep their memory until Return or ReturnIdle gives it back to the
// system. ReturnIdle gives back only memory that was not needed for a while, in
// whole huge pages. A bit for each page records which pages have memory. So
// warm + in use == Mapped holds exactly.
//
// One lock, pages_lock, guards everything here, and no other lock is taken
// under it. The holder of a run reads and writes its owners and its descriptor
// without that lock.
//
// In -race builds, and on systems without a suitable mmap, the arena is Go
// memory. The race detector sees no other memory.
package pages
