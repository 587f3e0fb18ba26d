package alloc

import (
	"strings"
	"testing"

	"slabfs/internal/lockdep"
)

// Calls of the lock engine that take their lock by themselves leave it to those that
// tell the checker, as soon as there is one.
func TestLockedIsChecked(t *testing.T) {
	a := newAllocator(t, Options{Engine: Lock})
	c := newCache(t, a, "checked", 64, CacheOptions{})
	for what, call := range map[string]func(){
		"Alloc and Free":      func() { c.Free(c.Alloc()) },
		"Bytes and FreeBytes": func() { a.FreeBytes(a.Bytes(64)) },
	} {
		for range 10 {
			call()
		}
		var list lockdep.Mutex
		list.Init(lockdep.List)
		report := lockdep.Alone(func() {
			freeAll(c, allocN(t, c, 500)) // takes a list_lock under a CPU's lock
			list.Lock()
			defer list.Unlock()
			call()
		})
		if want := lockdep.PerCPU.Name(); !strings.Contains(report, want) {
			t.Errorf("%s under a list_lock: the report is %q; want one of %q", what, report, want)
		}
	}
	checkRest(t, c, nil)
}
