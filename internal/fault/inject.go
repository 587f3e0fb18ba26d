package fault

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// The switches. docs/locking.md tells the history of the first five.
const (
	UnlinkUnderLocks    = "unlink-under-locks"
	NotifyUnderLocks    = "notify-under-locks"
	PublishBeforeUnlink = "publish-before-unlink"
	LateUnlink          = "late-unlink"
	EarlyName           = "early-name"
	NoDrain             = "no-drain"
	ReleaseBeforeUnlink = "release-before-unlink"
	PublishUnderLocks   = "publish-under-locks"
)

// switches has each mistake, and what goes wrong with it.
var switches = []struct{ name, mistake, wrong string }{
	{UnlinkUnderLocks,
		"destroy unlinks, and so drains active references, with cpu_hotplug_lock and slab_mutex held, as Linux 5.15 to 5.19 did",
		"a store that it waits for wants to read cpu_hotplug_lock, and waits behind a queued writer, which waits for destroy"},
	{NotifyUnderLocks,
		"destroy has the kernel forget each file, by NotifyDelete, with cpu_hotplug_lock and slab_mutex held",
		"the kernel wants the inode lock of a file, which the client of a store holds, and the store waits behind a queued hotplug writer"},
	{PublishBeforeUnlink,
		"destroy puts a typesafe-by-RCU cache on slab_caches_to_rcu_destroy under the locks, before it unlinks it, as v2 of the Linux patch did",
		"the work that another destroy has scheduled takes the whole list, and releases the cache while its files are there"},
	{LateUnlink,
		"the work function unlinks typesafe-by-RCU caches, before it releases them, as Linux 6.0 to 6.11 did",
		"when destroy has returned the directory is still there, its files work, and a create of the name fails, for a grace period and longer"},
	{EarlyName,
		"destroy gives up the name with the locks, before the unlink, as Linux has done since 6.0",
		"a create of the name finds the directory of the old cache in its way"},
	{NoDrain,
		"unlink does not wait for shows and stores under way",
		"a show or a store works on a cache that was released under it"},
	{ReleaseBeforeUnlink,
		"destroy releases a cache before it unlinks it",
		"the trees show a released cache, and shows and stores of it run"},
	{PublishUnderLocks,
		"create publishes with cpu_hotplug_lock and slab_mutex held",
		"a tree that takes one of them waits for the goroutine that it runs on"},
}

var injected atomic.Pointer[string]

// Inject turns a switch on, and the one before off. It affects only what is
// made from now on. So it is for the beginning of a program, and for tests. A
// name that Names does not list is an error.
func Inject(name string) error {
	if !slices.Contains(Names(), name) {
		return fmt.Errorf("inject %q: no such fault, want one of %s", name, strings.Join(Names(), " "))
	}
	injected.Store(&name)
	return nil
}

// Reset turns the switch off.
func Reset() { injected.Store(nil) }

// Injected returns the switch that is on, or "" if there is none.
func Injected() string {
	if name := injected.Load(); name != nil {
		return *name
	}
	return ""
}

// Names returns all switches.
func Names() []string {
	var names []string
	for _, s := range switches {
		names = append(names, s.name)
	}
	return names
}

// Explain returns two lines about a switch: the mistake, and what goes wrong.
// Do not show them to somebody who is to find the mistake.
func Explain(name string) string {
	for _, s := range switches {
		if s.name == name {
			return s.mistake + ";\n" + s.wrong + "\n"
		}
	}
	return ""
}

// Forget is for NotifyUnderLocks. It removes a *sysfs.Kobject from its tree,
// notifies the observers, and returns the function that drains the Kobject.
// Package sysfs sets Forget, because sysfs does not export this to programs.
var Forget func(kobject any) (drain func())
