#include <stdint.h>

#include "peer.h"

// Workloads on threads of C. If memory or threads run out, the program ends.

// Objects that producers allocated and consumers freed.
struct moved {
	long made, freed;
};

// xmalloc_run runs as many producers as consumers for some time, and then until
// all objects are freed.
struct moved xmalloc_run(const struct peer *p, int pairs, long nanoseconds);

// A larson is a server whose threads replace objects in slots of their own.
struct larson;

// larson_new fills and shuffles the slots of all threads.
struct larson *larson_new(const struct peer *p, int threads, uint64_t seed);

// larson_run runs the threads for some time and returns how many objects they replaced.
long larson_run(struct larson *l, long nanoseconds);

// larson_free frees the server and its objects.
void larson_free(struct larson *l);
