#include <stddef.h>

// A peer is one allocator.
struct peer {
	void *(*malloc)(size_t);
	void (*free)(void *);
};

// peer_open loads a library. It returns NULL, or a description of the error.
const char *peer_open(struct peer *p, const char *library);

// One call.
void *peer_malloc(const struct peer *p, size_t size);
void peer_free(const struct peer *p, void *obj);

// Loops.
void peer_pairs(const struct peer *p, size_t size, long n);
void peer_fill(const struct peer *p, size_t size, void **objs, long n);
void peer_drain(const struct peer *p, void **objs, long n);
