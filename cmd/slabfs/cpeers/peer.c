#define _GNU_SOURCE
#include <dlfcn.h>

#include "peer.h"

const char *peer_open(struct peer *p, const char *library)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);

	if (!handle)
		return dlerror();
	p->malloc = (void *(*)(size_t))dlsym(handle, "malloc");
	p->free = (void (*)(void *))dlsym(handle, "free");
	return p->malloc && p->free ? NULL : "no malloc and free";
}

void *peer_malloc(const struct peer *p, size_t size)
{
	return p->malloc(size);
}

void peer_free(const struct peer *p, void *obj)
{
	p->free(obj);
}

void peer_pairs(const struct peer *p, size_t size, long n)
{
	void *(*alloc)(size_t) = p->malloc;
	void (*release)(void *) = p->free;

	while (n-- > 0)
		release(alloc(size));
}

void peer_fill(const struct peer *p, size_t size, void **objs, long n)
{
	void *(*alloc)(size_t) = p->malloc;

	for (long i = 0; i < n; i++)
		objs[i] = alloc(size);
}

void peer_drain(const struct peer *p, void **objs, long n)
{
	void (*release)(void *) = p->free;

	for (long i = 0; i < n; i++)
		release(objs[i]);
}
