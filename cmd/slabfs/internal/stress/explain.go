package stress

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// What the judge concludes from stacks and reports, in two lines.

// A party is who takes part in a deadlock. It is told by functions that are in its
// goroutine's stack.
type party []string

var (
	drains     = party{"alloc.(*Allocator).destroy", "sysfs.(*Kobject).Remove(", "sync.(*Cond).Wait("}
	notifies   = party{"alloc.(*Allocator).destroy", "Notify(", "unix."}
	publishes  = party{"alloc.(*Allocator).NewCache(", ".Publish(", "lockdep.(*Mutex).Lock("}
	stores     = party{"sysfs.(*File).Store(", "cpu.(*Hotplug).RLockContext("}
	plugs      = party{"cpu.(*Hotplug).Lock("}
	wantsNames = party{"alloc.(*Allocator).", "lockdep.(*Mutex).Lock("}
)

// in returns how many goroutines are such parties.
func (p party) in(goroutines []string) (n int) {
	for _, g := range goroutines {
		if !slices.ContainsFunc(p, func(f string) bool { return !strings.Contains(g, f) }) {
			n++
		}
	}
	return n
}

// explainHang says who holds and who waits, as the stacks of all goroutines show it.
func explainHang(stacks string) [2]string {
	all := strings.Split(stacks, "\n\n")
	waiting, queued := stores.in(all), plugs.in(all)
	switch d, n := drains.in(all), notifies.in(all); {
	case waiting > 0 && queued > 0 && d > 0:
		return [2]string{
			fmt.Sprintf("deadlock: %d destroy drains, and waits for active references; %d stores have these, and wait to read cpu_hotplug_lock;", d, waiting),
			fmt.Sprintf("they wait behind %d queued hotplug writer, which waits for the reader that is left: the destroy, which drains with the lock held.", queued)}
	case waiting > 0 && queued > 0 && n > 0:
		return [2]string{
			fmt.Sprintf("deadlock: %d destroy is in the kernel with a notification, and waits for the inode lock of a file; the clients of %d stores have these, and the stores wait to read cpu_hotplug_lock;", n, waiting),
			fmt.Sprintf("they wait behind %d queued hotplug writer, which waits for the reader that is left: the destroy, which notifies with the lock held.", queued)}
	}
	if n := publishes.in(all); n > 0 {
		return [2]string{
			fmt.Sprintf("deadlock: %d create is in the Publish of a tree, which asks for slab_mutex; nobody else is in a section of it:", n),
			fmt.Sprintf("it waits for its own goroutine, which publishes with the lock held. %d goroutines wait for slab_mutex.", wantsNames.in(all))}
	}
	return [2]string{
		fmt.Sprintf("it is none of the known circles: %d stores and %d hotplug writers wait for cpu_hotplug_lock, %d goroutines for a mutex of the allocator;", waiting, queued, wantsNames.in(all)),
		"the stacks show who waits where; what has waited longest comes first in the list above them."}
}

var (
	chain    = regexp.MustCompile(`(?m)^Chain exists of:\n +(.*)$`)
	title    = regexp.MustCompile(`(?m)^WARNING: (.*)$`)
	acquired = regexp.MustCompile(`(?m)is trying to acquire lock:\n.*?\((.*?)\)\{.*at: (\S+)`)
	held     = regexp.MustCompile(`(?m)already holding lock:\n.*?\((.*?)\)\{.*at: (\S+)`)
)

// explainOrder says which locks make a circle, as a report of lockdep shows it.
func explainOrder(report string) [2]string {
	one := func(r *regexp.Regexp, n int) string {
		if m := r.FindStringSubmatch(report); m != nil {
			return m[n]
		}
		return "?"
	}
	wanted, have := one(acquired, 1), one(held, 1)
	path := one(chain, 1)
	if path == "?" {
		path = have + " --> " + wanted
	}
	first, _, _ := strings.Cut(path, " --> ")
	what := fmt.Sprintf("lock order: %s --> %s is a circle, which deadlocks when each is held by one who waits for the next;", path, first)
	if !strings.Contains(one(title, 1), "circular") {
		what = fmt.Sprintf("lock order: %s: %s, with %s held;", one(title, 1), wanted, have)
	}
	return [2]string{what, fmt.Sprintf("%s was wanted in %s, with %s held since %s; the report shows where the others were.",
		wanted, one(acquired, 2), have, one(held, 2))}
}
