#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "count.h"

static atomic_long mallocs, frees;
static _Atomic size_t smallest, largest;

static void *counting_malloc(size_t size)
{
	mallocs++;
	for (size_t s = smallest; size < s && !atomic_compare_exchange_weak(&smallest, &s, size);)
		;
	for (size_t l = largest; size > l && !atomic_compare_exchange_weak(&largest, &l, size);)
		;
	return malloc(size);
}

static void counting_free(void *obj)
{
	frees++;
	free(obj);
}

void peer_counting(struct peer *p)
{
	*p = (struct peer){counting_malloc, counting_free};
	mallocs = frees = 0;
	smallest = SIZE_MAX;
	largest = 0;
}

struct seen peer_seen(void)
{
	return (struct seen){mallocs, frees, smallest, largest};
}
