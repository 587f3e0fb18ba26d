// Command cpeers brings allocators of C to `slabfs bench`: malloc of the C
// library, jemalloc, mimalloc and tcmalloc, each in two columns.
//
//	NAME      called from Go: each allocation and each free is a cgo call
//	NAME-c    the same loops in C, without cgo calls: what the allocator itself
//	          can do; xmalloc and larson on threads of C (threads.c)
//
// It is a module of its own, so that slabfs needs no C compiler. On Debian:
//
//	apt install gcc libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4
//	GOWORK=off go -C cmd/slabfs/cpeers build -o /tmp/cpeers .
//	slabfs bench --peers /tmp/cpeers --workloads 'pair,deep*,bulk,xmalloc,larson'
//
// All libraries are loaded into one process, so that their cells can be
// interleaved. Each sees its own malloc (dlopen with RTLD_LOCAL and
// RTLD_DEEPBIND). A missing library is left out, and a note says so. jemalloc
// needs thread-local memory that is reserved when a process starts, so the
// program restarts itself with room for it.
package main
