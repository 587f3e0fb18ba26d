package stress

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"slabfs/alloc"
	"slabfs/internal/fault"
	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// One goroutine does one thing after the other. Nothing meets anything, no writer
// of the hotplug lock is ever queued, nobody waits: and the wrong orders are
// reported all the same, each by its circle.
func TestOrder(t *testing.T) {
	for _, merge := range []bool{true, false} {
		t.Run(fmt.Sprint("merge=", merge), func(t *testing.T) { testOrder(t, merge) })
	}
}

func testOrder(t *testing.T, merge bool) {
	report := lockdep.Alone(func() {
		m := newModel(t, merge)
		defer m.close()
		m.a.Attach(m)
		var caches []*alloc.Cache
		for _, name := range []string{"model", "tuned"} {
			c, err := m.a.NewCache(name, 64, alloc.CacheOptions{})
			if err != nil {
				t.Fatal(err)
			}
			caches = append(caches, c)
		}
		if err := m.write(m.dir(caches[0].ID()).Child("cpu_partial").(*sysfs.File)); err != nil {
			t.Error(err)
		}
		for _, c := range caches {
			if err := c.Destroy(); err != nil {
				t.Error(err)
			}
		}
		m.plug(0)
	})
	var want []string
	switch {
	case fault.UnlinkUnderLocks:
		want = []string{
			"possible circular locking dependency detected",
			"Chain exists of:\n  kn->active#cpu_partial --> cpu_hotplug_lock --> slab_mutex\n",
			"sysfs.(*Kobject).Remove", "alloc.(*Allocator).destroyLocked", "alloc.(*core).flushAll",
			"2 locks held by ",
		}
	case fault.NotifyUnderLocks:
		want = []string{
			"possible circular locking dependency detected",
			"Chain exists of:\n  i_mutex_key --> cpu_hotplug_lock --> slab_mutex\n", ".Forget+",
		}
	case fault.PublishUnderSlabMutex:
		want = []string{
			"possible recursive locking detected",
			"  rlock(cpu_hotplug_lock);\n  rlock(cpu_hotplug_lock);\n", "stress.(*model).Publish", "2 locks held by ",
		}
	}
	report = regexp.MustCompile(`#cpu_partial#\d+`).ReplaceAllString(report, "#cpu_partial") // each model has its attribute
	if len(want) == 0 && report != "" {
		t.Errorf("reported, though nothing is wrong:\n%s", report)
	}
	for _, w := range want {
		if !strings.Contains(report, w) {
			t.Errorf("no %q in the report:\n%s", w, report)
		}
	}
}
