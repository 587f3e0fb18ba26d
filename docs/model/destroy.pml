/*
 * Destroy of a cache and everything that it can meet, for spin. README.md tells how
 * to run this and how to read what it prints; ../locking.md tells the counter-examples.
 *
 * Two caches exist. Two clients write to cpu_partial, two destroys end caches by
 * name, a create makes a cache under the name of the first, a CPU goes offline, and
 * behind them are RCU and the work that releases caches. Spin tries every order in
 * which their steps can come, and checks that
 *
 *   nobody waits for ever                      no invalid end state
 *   nobody touches a released cache            use
 *   a release is after unlink and drain        release
 *   what was destroyed is released, once       release, settled
 *   no name leads to two directories           create
 *   directory gone and name free on return     destroy
 *
 * Each of these switches makes one mistake:
 *
 *   UNLINK_UNDER_LOCKS     destroy unlinks under cpu_hotplug_lock and slab_mutex: Linux 5.15 to 5.19
 *   NOTIFY_UNDER_LOCKS     it tells the kernel there, by NotifyDelete, and drains later
 *   PUBLISH_BEFORE_UNLINK  it gives the cache to the work before the unlink: v1 and v2 of the patch
 *   LATE_UNLINK            the work unlinks: v3, Linux 6.0 to 6.11
 *   EARLY_NAME             it frees the name under the locks, before the unlink: Linux since 6.0
 *   NO_DRAIN               unlink does not wait for stores under way
 *   RELEASE_BEFORE_UNLINK  destroy releases a cache first, and then unlinks it
 *   PUBLISH_UNDER_LOCKS    create publishes under cpu_hotplug_lock and slab_mutex
 *   NO_BARRIER             the work does not wait for callbacks of RCU
 *
 * and these change the question:
 *
 *   NO_HOTPLUG             no CPU goes offline
 *   NO_PROMISE             it does not matter what is left when destroy returns
 *   BARRIER_IN_DESTROY     destroy itself waits for RCU and releases: Linux since 6.12
 *
 * A section under locks that waits for nothing else is one step (atomic, which ends
 * where it has to wait): nobody else could tell. So are steps in a row that only
 * give up what was held.
 *
 * Left out: flush_lock and the locks below it, under which nobody waits for anything
 * above; objects (shut down always succeeds); trees that come and go; publishes that
 * fail; names that share a cache.
 */

/* Caches 0 and 1 exist in the beginning; 2 is what create makes, under the name of 0. */
#define CACHES  3
#define NAMES   2
#define NAME(c) ((c) % NAMES)
#define NONE    255

/* A queued writer of a semaphore holds new readers back. What it does then is one step. */
typedef rwsem { byte readers; byte queued };

inline rlock(s)   { !s.queued -> s.readers++ }
inline runlock(s) { s.readers-- }
inline queue(s)   { s.queued++ }
inline wlock(s)   { !s.readers -> s.queued-- }

inline lock(m)    { !m -> m = true }
inline unlock(m)  { m = false }

typedef object {
	bool typesafe;   /* by RCU, whose callbacks free its slabs */
	bool publishing; /* the publish of its directory is booked */
	bool listed;     /* on the list of caches */
	bool dying;      /* shut down */
	bool callback;   /* has not run yet */
	bool torelease;  /* on slab_caches_to_rcu_destroy */
	bool taken;      /* from there, by the work */
	bool released;

	/* Its file cpu_partial. */
	rwsem inode;     /* the kernel's lock of the inode */
	byte  refs;      /* active references */
	bool  gone;      /* no store begins any more */
	bool  unlinked   /* and none runs */
};

object cache[CACHES];
byte   names[NAMES]; /* whose the name is, from create until it is free */
byte   dir[NAMES];   /* which cache the directory of that name shows */
rwsem  hotplug;      /* cpu_hotplug_lock */
bool   slab_mutex;
bool   scheduled;    /* the work */

/* Whoever looks at a cache. */
inline use(c) { assert(!cache[c].released) }

/* Unlink and what is below it: the tree of files, active references, the kernel. */
inline take_out(c) {
	d_step {
		use(c);
		assert(dir[NAME(c)] == c);
		dir[NAME(c)] = NONE;  /* no open finds it, */
		cache[c].gone = true  /* no store begins */
	}
}

inline drain(c) {
	atomic {
#ifndef NO_DRAIN
		!cache[c].refs;
#endif
		use(c);
		cache[c].unlinked = true
	}
}

inline notify_delete(c) {
	queue(cache[c].inode);
	atomic { wlock(cache[c].inode) }
}

/* It waits for 250 ms at most. NotifyEntry would not even need the file's lock. */
inline notify(c) {
	if
	:: notify_delete(c)
	:: skip
	fi
}

inline unlink(c) { take_out(c); drain(c); notify(c) }

inline free_name(c) {
	atomic {
		lock(slab_mutex);
		if
		:: names[NAME(c)] == c -> names[NAME(c)] = NONE
		:: else
		fi;
		unlock(slab_mutex)
	}
}

inline release(c) {
	d_step {
		assert(!cache[c].released);
		assert(cache[c].unlinked);
		assert(!cache[c].refs);
		assert(!cache[c].callback);
		cache[c].released = true
	}
}

/* rcu.Barrier: callbacks that were queued have run. */
inline barrier() {
#ifndef NO_BARRIER
	!cache[0].callback && !cache[1].callback
#else
	skip
#endif
}

inline drop_locks() { unlock(slab_mutex); runlock(hotplug) }

/* DestroyName. The steps are those of alloc/destroy.go. */
proctype destroy(byte n) {
	byte c;

again:	atomic {
		/* step: look up */
		rlock(hotplug);
		lock(slab_mutex);
		c = names[n];
		if
		:: c == NONE -> drop_locks(); goto out /* ErrNotExist */
		:: else
		fi;
		if
		:: cache[c].dying -> drop_locks(); goto out /* the same */
		:: cache[c].publishing -> /* which the unlink must not overtake */
			drop_locks();
			!cache[c].publishing;
			goto again
		:: else
		fi;

		/* step: shut down */
		use(c);
		cache[c].dying = true;
		cache[c].callback = cache[c].typesafe;

		/* step: off the list */
		cache[c].listed = false;
#ifdef EARLY_NAME
		names[n] = NONE;
#endif
#ifdef PUBLISH_BEFORE_UNLINK
		cache[c].torelease = cache[c].typesafe;
#endif
#ifdef UNLINK_UNDER_LOCKS
		unlink(c);
#endif
#ifdef NOTIFY_UNDER_LOCKS
		take_out(c);
		notify_delete(c);
#endif

		/* step: drop locks */
		drop_locks()
	};

#ifdef LATE_UNLINK
	if
	:: cache[c].typesafe -> goto publish
	:: else
	fi;
#endif

#ifdef RELEASE_BEFORE_UNLINK
	release(c);
#endif

	/* step: unlink */
#if defined(NOTIFY_UNDER_LOCKS)
	drain(c);
#elif !defined(UNLINK_UNDER_LOCKS)
	unlink(c);
#endif

	/* step: free name */
	free_name(c);

	/* step: release */
publish:
	atomic {
		if
		:: !cache[c].typesafe -> release(c)
		:: else ->
#ifdef BARRIER_IN_DESTROY
			barrier();
			release(c)
#else
#ifndef PUBLISH_BEFORE_UNLINK
			cache[c].torelease = true;
#endif
			scheduled = true
#endif
		fi;
#ifndef NO_PROMISE
		assert(dir[n] != c && names[n] != c)
#endif
	};
out:	skip
}

/* The work: takes the whole list, waits for RCU, releases each. */
proctype work() {
	byte c;

end:	atomic {
		scheduled;
		scheduled = false;
		for (c : 0 .. CACHES-1) {
			cache[c].taken = cache[c].torelease;
			cache[c].torelease = false
		}
		barrier();
		for (c : 0 .. CACHES-1) {
			if
			:: cache[c].taken ->
				cache[c].taken = false;
#ifdef LATE_UNLINK
				unlink(c);
				free_name(c);
#endif
				release(c)
			:: else
			fi
		}
	};
	goto end
}

/* RCU runs a callback some time after it was queued. It frees slabs, and needs their cache. */
inline run_callback(c) { d_step { cache[c].callback -> use(c); cache[c].callback = false } }

proctype rcu() {
end:	do
	:: run_callback(0)
	:: run_callback(1)
	od
}

/* The tree looks at the list of caches, as one with a sum over all would. */
inline publish(c) {
	atomic { lock(slab_mutex); unlock(slab_mutex) };
	d_step { assert(dir[NAME(c)] == NONE); dir[NAME(c)] = c }
}

/* NewCache, under the name of cache 0. */
proctype create() {
	atomic {
		rlock(hotplug);
		lock(slab_mutex);
		if
		:: names[NAME(2)] != NONE -> drop_locks(); goto out /* ErrExist */
		:: else
		fi;
		names[NAME(2)] = 2;
		cache[2].listed = true;
		cache[2].publishing = true;
#ifdef PUBLISH_UNDER_LOCKS
		publish(2);
#endif
		drop_locks()
	};

#ifndef PUBLISH_UNDER_LOCKS
	publish(2);
#endif

	atomic { lock(slab_mutex); cache[2].publishing = false; unlock(slab_mutex) };
out:	skip
}

/* A client: echo 0 >cpu_partial, of a cache that has a directory now. */
proctype client(byte n) {
	byte c;

	atomic {
		c = dir[n]; /* open(2), which holds nothing afterwards */
		if
		:: c == NONE -> goto out /* ENOENT */
		:: else
		fi;
		rlock(cache[c].inode) /* write(2) */
	};
	atomic {
		if
		:: cache[c].gone -> runlock(cache[c].inode); goto out /* ENODEV */
		:: else -> cache[c].refs++ /* the server has the request */
		fi
	};
	atomic {
		rlock(hotplug);
		use(c); /* flush */
		runlock(hotplug);
		cache[c].refs--;
		runlock(cache[c].inode)
	};
out:	skip
}

/* A CPU goes offline: flushes all caches that are on the list. */
proctype offline() {
	byte c;

	queue(hotplug);
	atomic {
		wlock(hotplug);
		for (c : 0 .. CACHES-1) {
			if
			:: cache[c].listed -> use(c)
			:: else
			fi
		}
	}
}

inline exists(c) {
	names[NAME(c)] = c;
	dir[NAME(c)] = c;
	cache[c].listed = true
}

/* Every cache that was destroyed is released in the end. */
#define settled(c) (cache[c].dying == cache[c].released)

init {
	byte n;

	atomic {
		exists(0);
		exists(1);
		if :: cache[0].typesafe = true :: skip fi;
		cache[1].typesafe = cache[0].typesafe;
		run rcu();
		run work();
		if :: n = 0 :: n = 1 fi;
		run client(0);
		run client(n);
		run create();
#ifndef NO_HOTPLUG
		run offline();
#endif
		run destroy(0);
		run destroy(n)
	};
	/* If this never comes true, init is found waiting. */
	_nr_pr == 3 && settled(0) && settled(1) && settled(2)
}
