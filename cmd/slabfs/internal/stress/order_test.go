package stress

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"slabfs/alloc"
	"slabfs/internal/fault"
	"slabfs/internal/lockdep"
)

// One goroutine does one thing after the other. Nothing meets anything, no writer
// of the hotplug lock is ever queued, nobody waits: and the wrong orders are
// reported all the same, each by its circle.
func TestOrder(t *testing.T) {
	wants := map[string][]string{
		fault.UnlinkUnderLocks: {
			"possible circular locking dependency detected",
			"Chain exists of:\n  kn->active#cpu_partial --> cpu_hotplug_lock --> slab_mutex\n",
			"sysfs.(*Kobject).Remove", "alloc.(*Allocator).destroyLocked", "alloc.(*core).flushAll",
			"2 locks held by ",
		},
		fault.NotifyUnderLocks: {
			"possible circular locking dependency detected",
			"Chain exists of:\n  i_mutex_key --> cpu_hotplug_lock --> slab_mutex\n", ".forget+",
		},
		fault.PublishUnderLocks: {
			"possible recursive locking detected",
			"  rlock(cpu_hotplug_lock);\n  rlock(cpu_hotplug_lock);\n", "stress.(*model).Publish", "2 locks held by ",
		},
	}
	for _, name := range append(fault.Names(), "") {
		for _, merge := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s,merge=%v", name, merge), func(t *testing.T) {
				injecting(t, name, func() { testOrder(t, merge, wants[name]) })
			})
		}
	}
}

// testOrder wants to find these in the report of lockdep; none: no report.
func testOrder(t *testing.T, merge bool, want []string) {
	report := lockdep.Alone(func() {
		m := newModel(t, merge)
		defer m.close()
		m.a.Attach(m)
		caches := []*alloc.Cache{m.cache("model", 64, 0), m.cache("tuned", 64, 0)}
		if err := m.write(m.file(caches[0])); err != nil {
			t.Error(err)
		}
		for _, c := range caches {
			m.destroyer(0, c)()
		}
		m.plug(0)
	})
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
