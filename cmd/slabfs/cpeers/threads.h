#include <stdint.h>

#include "peer.h"

// Workloads on threads of C. Without memory or threads the program ends.

// Objects that producers allocated, and that consumers freed.
struct moved {
	long made, freed;
};

// xmalloc_run lets as many producers as consumers work for some time, and until all is freed
// that was allocated.
struct moved xmalloc_run(const struct peer *p, int pairs, long nanoseconds);

// A larson is a server whose threads replace objects in slots of their own.
struct larson;

// larson_new fills and shuffles the slots of as many threads.
struct larson *larson_new(const struct peer *p, int threads, uint64_t seed);

// larson_run lets them work for some time and returns how many objects they replaced.
long larson_run(struct larson *l, long nanoseconds);

// larson_free frees the objects too.
void larson_free(struct larson *l);
