// xmalloc and larson as xmalloc.go and larson.go of cmd/slabfs/internal/bench
// define them: the same sizes, threads, hand-over and counting.

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "threads.h"

static void *must(void *memory)
{
	if (memory)
		return memory;
	fputs("cpeers: no memory\n", stderr);
	exit(1);
}

// start starts a thread with all signals blocked, so that threads of Go get them.
static void start(pthread_t *thread, void *(*body)(void *), void *arg)
{
	sigset_t all, old;
	int wrong;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	wrong = pthread_create(thread, NULL, body, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (wrong) {
		fprintf(stderr, "cpeers: start a thread: %s\n", strerror(wrong));
		exit(1);
	}
}

static void wait_for(long nanoseconds)
{
	struct timespec left = {nanoseconds / 1000000000, nanoseconds % 1000000000};

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
		;
}

// xmalloc

enum { xm_size = 64, xm_batch = 4096, xm_queue = 100 };

struct batch {
	void *objs[xm_batch];
};

// A stack of batches. more signals a new batch, or the end of the run.
struct stack {
	pthread_cond_t more;
	int n;
	struct batch *batches[xm_queue];
};

struct exchange {
	const struct peer *p;
	atomic_bool stop;

	pthread_mutex_t mu; // protects the fields below
	struct stack full, empty;
	int producers;
	struct moved moved;
};

// take waits for a batch on a stack. It returns NULL if no more will come.
static struct batch *take(struct exchange *x, struct stack *s)
{
	struct batch *b = NULL;

	pthread_mutex_lock(&x->mu);
	while (!s->n && (s != &x->full || x->producers))
		pthread_cond_wait(&s->more, &x->mu);
	if (s->n)
		b = s->batches[--s->n];
	pthread_mutex_unlock(&x->mu);
	return b;
}

static void put(struct exchange *x, struct stack *s, struct batch *b)
{
	pthread_mutex_lock(&x->mu);
	s->batches[s->n++] = b;
	pthread_mutex_unlock(&x->mu);
	pthread_cond_signal(&s->more);
}

static void *producer(void *arg)
{
	struct exchange *x = arg;
	long made = 0;

	do {
		struct batch *b = take(x, &x->empty);

		peer_fill(x->p, xm_size, b->objs, xm_batch);
		for (int i = 0; i < xm_batch; i++)
			memset(must(b->objs[i]), i, xm_size);
		made += xm_batch;
		put(x, &x->full, b);
	} while (!x->stop);
	pthread_mutex_lock(&x->mu);
	x->producers--;
	x->moved.made += made;
	pthread_mutex_unlock(&x->mu);
	pthread_cond_broadcast(&x->full.more);
	return NULL;
}

static void *consumer(void *arg)
{
	struct exchange *x = arg;
	struct batch *b;
	long freed = 0;

	while ((b = take(x, &x->full))) {
		peer_drain(x->p, b->objs, xm_batch);
		freed += xm_batch;
		put(x, &x->empty, b);
	}
	pthread_mutex_lock(&x->mu);
	x->moved.freed += freed;
	pthread_mutex_unlock(&x->mu);
	return NULL;
}

struct moved xmalloc_run(const struct peer *p, int pairs, long nanoseconds)
{
	struct exchange x = {
		.p = p, .mu = PTHREAD_MUTEX_INITIALIZER, .producers = pairs,
		.full.more = PTHREAD_COND_INITIALIZER, .empty.more = PTHREAD_COND_INITIALIZER,
	};
	struct batch *batches = must(calloc(xm_queue, sizeof *batches));
	pthread_t *threads = must(calloc(2 * pairs, sizeof *threads));

	for (int i = 0; i < xm_queue; i++)
		x.empty.batches[x.empty.n++] = &batches[i];
	for (int i = 0; i < 2 * pairs; i++)
		start(&threads[i], i % 2 ? consumer : producer, &x);
	wait_for(nanoseconds);
	x.stop = true;
	for (int i = 0; i < 2 * pairs; i++)
		pthread_join(threads[i], NULL);
	free(threads);
	free(batches);
	return x.moved;
}

// larson

enum { lar_slots = 5000, lar_life = 100 * lar_slots, lar_step = 500, lar_min = 8, lar_max = 1000 };

// A source of random numbers: PCG-DXSM as in Go's math/rand/v2, so that random
// numbers cost the same as in Go.
struct source {
	unsigned __int128 state;
};

// draw returns a number from 0 up to, but not including, limit.
static inline uint32_t draw(struct source *r, uint32_t limit)
{
	const unsigned __int128 mul = (unsigned __int128)2549297995355413924u << 64 | 4865540595714422341u;
	const unsigned __int128 inc = (unsigned __int128)6364136223846793005u << 64 | 1442695040888963407u;
	uint64_t high, low;

	r->state = r->state * mul + inc;
	high = r->state >> 64;
	low = r->state;
	high ^= high >> 32;
	high *= 0xda942042e4dd58b5u;
	high ^= high >> 48;
	high *= low | 1;
	return (high >> 32) * limit >> 32;
}

// A slice belongs to one thread after the other.
struct slice {
	struct larson *server;
	void **slots;
	struct source random;
	long done;
	pthread_t thread; // the thread that began last
	pthread_t before; // the thread that it takes over from
	bool heir;        // before is set
};

struct larson {
	struct peer p;
	atomic_bool stop;
	int threads;
	void **slots; // of all slices
	struct slice *slices;

	pthread_mutex_t mu; // protects running: slices whose last thread has not ended
	pthread_cond_t ended;
	int running;
};

// fresh returns a new object.
static void *fresh(const struct peer *p, struct source *r)
{
	return must(p->malloc(lar_min + draw(r, lar_max - lar_min)));
}

// replace frees the object of a random slot and allocates another, n times.
static void replace(const struct peer *p, struct source *r, void **slots, int count, long n)
{
	while (n-- > 0) {
		void **slot = &slots[draw(r, count)];
		volatile char *obj;

		p->free(*slot);
		*slot = fresh(p, r);
		obj = *slot;
		obj[0] = 'a';
		obj[1] = 'b';
	}
}

// serve is the life of one thread.
static void *serve(void *arg)
{
	struct slice *s = arg;
	struct larson *l = s->server;

	if (s->heir)
		pthread_join(s->before, NULL);
	for (int i = 0; i < lar_life / lar_step; i++) {
		replace(&l->p, &s->random, s->slots, lar_slots, lar_step);
		s->done += lar_step;
		if (l->stop) {
			pthread_mutex_lock(&l->mu);
			l->running--;
			pthread_mutex_unlock(&l->mu);
			pthread_cond_signal(&l->ended);
			return NULL;
		}
	}
	s->before = pthread_self();
	s->heir = true;
	start(&s->thread, serve, s);
	return NULL;
}

struct larson *larson_new(const struct peer *p, int threads, uint64_t seed)
{
	struct larson *l = must(calloc(1, sizeof *l));
	int n = threads * lar_slots;
	struct source r = {seed};

	*l = (struct larson){
		.p = *p, .threads = threads, .mu = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER,
		.slots = must(calloc(n, sizeof *l->slots)), .slices = must(calloc(threads, sizeof *l->slices)),
	};
	for (int i = 0; i < n; i++)
		l->slots[i] = fresh(p, &r);
	for (int i = n - 1; i > 0; i--) {
		int j = draw(&r, i + 1);
		void *obj = l->slots[i];

		l->slots[i] = l->slots[j];
		l->slots[j] = obj;
	}
	replace(p, &r, l->slots, n, 4 * n);
	for (int i = 0; i < threads; i++)
		l->slices[i] = (struct slice){.server = l, .slots = l->slots + i * lar_slots, .random = {seed + 1 + i}};
	return l;
}

long larson_run(struct larson *l, long nanoseconds)
{
	long done = 0;

	l->stop = false;
	l->running = l->threads;
	for (int i = 0; i < l->threads; i++) {
		l->slices[i].heir = false;
		start(&l->slices[i].thread, serve, &l->slices[i]);
	}
	wait_for(nanoseconds);
	l->stop = true;
	pthread_mutex_lock(&l->mu);
	while (l->running)
		pthread_cond_wait(&l->ended, &l->mu);
	pthread_mutex_unlock(&l->mu);
	for (int i = 0; i < l->threads; i++) {
		pthread_join(l->slices[i].thread, NULL);
		done += l->slices[i].done;
		l->slices[i].done = 0;
	}
	return done;
}

void larson_free(struct larson *l)
{
	for (int i = 0; i < l->threads * lar_slots; i++)
		l->p.free(l->slots[i]);
	free(l->slices);
	free(l->slots);
	free(l);
}
