// Command cpeers brings allocators of C to `slabfs bench`: malloc of the C library, jemalloc,
// mimalloc and tcmalloc, each in two columns.
//
//	NAME      called from Go: each allocation and each free is a call through cgo
//	NAME-c    the same loops in C: what the allocator can do where no border is crossed;
//	          xmalloc and larson on threads of C (threads.c)
//
// It is a module of its own, so that slabfs needs no C compiler. On Debian:
//
//	apt install gcc libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4
//	GOWORK=off go -C cmd/slabfs/cpeers build -o /tmp/cpeers .
//	slabfs bench --peers /tmp/cpeers --workloads 'pair,deep*,bulk,xmalloc,larson'
//
// All of them are loaded into one process, side by side, so that cells can be interleaved;
// each sees its own malloc (dlopen with RTLD_LOCAL and RTLD_DEEPBIND). A library that is not
// there is left out, and a note says so. jemalloc wants thread-local memory that is laid out
// when a process starts: the program starts itself again, with room for it.
package main
