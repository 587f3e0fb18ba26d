#include "peer.h"

// What the counting peer has seen since peer_counting, in all threads.
struct seen {
	long mallocs, frees;
	size_t smallest, largest;
};

// peer_counting makes the peer count. It uses malloc of the C library, for
// tests.
void peer_counting(struct peer *p);

struct seen peer_seen(void);
