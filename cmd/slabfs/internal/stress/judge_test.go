package stress

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A fakeWorld says what a test wants, and hears what the judge asks for.
type fakeWorld struct {
	enc  *json.Encoder
	asks chan string
}

func (w *fakeWorld) say(t *testing.T, messages ...message) {
	t.Helper()
	for _, m := range messages {
		if err := w.enc.Encode(m); err != nil {
			t.Error(err)
		}
	}
}

// judged returns what the judge makes of a world: its output and its verdict.
func judged(t *testing.T, c judgeConfig, world func(w *fakeWorld), stop <-chan os.Signal) (out, errs string, v verdict) {
	t.Helper()
	var o, e bytes.Buffer
	from, to := io.Pipe()
	defer from.Close()
	w := &fakeWorld{json.NewEncoder(to), make(chan string, 8)}
	j := newJudge(c, &o, &e, func(s string) { w.asks <- s })
	go func() {
		world(w)
		to.Close()
	}()
	j.follow(from, stop)
	j.report()
	return o.String(), e.String(), j.verdict
}

// calm is a state of a world in which nothing is wrong and everything has met.
func calm() *state {
	s := new(state)
	for o := range ops {
		s.Ops[o].Outcomes[opRules[o].may[0]] = 1
	}
	for c := range counters {
		if counterRules[c].must == prove {
			s.Counters[c] = 1
		}
	}
	return s
}

func TestJudge(t *testing.T) {
	with := func(change func(*state)) *state {
		s := calm()
		change(s)
		return s
	}
	for _, tc := range []struct {
		name       string
		say        []message
		violations int
		missing    []string
		want       string // on standard error
	}{
		{"nothing wrong", []message{{State: calm()}}, 0, nil, ""},
		{"a wrong outcome", []message{
			{Example: &example{Op: opStoreGone, Outcome: done, What: "busy0/cpu_partial", Error: "<nil>"}},
			{State: with(func(s *state) { s.Ops[opStoreGone].Outcomes[done] = 2 })},
		}, 2, nil, `store after the destroy "busy0/cpu_partial": success; want the cache is gone (2 times)` + "\n  destroy had returned"},
		{"an outcome that has no name", []message{
			{Example: &example{Op: opAttach, Outcome: otherwise, What: "a tree", Error: "no idea"}},
			{State: with(func(s *state) { s.Ops[opAttach].Outcomes[otherwise] = 1 })},
		}, 1, nil, `attach a tree "a tree": no idea; want success (1 times)`},
		{"unlink after release", []message{{State: with(func(s *state) { s.Counters[early] = 3 })}}, 3, nil,
			"caches released before the last unlink of them had ended (3 times)"},
		{"a mount that others keep", []message{
			{Example: &example{Op: opEnd, Outcome: detached, What: "unmount", Error: "a copy is left"}},
			{State: with(func(s *state) { s.Ops[opEnd].Outcomes[detached] = 1 })},
		}, 0, nil, `no violation: "unmount": a copy is left`},
		{"a detached mount where none is unmounted", []message{
			{State: with(func(s *state) { s.Ops[opStore].Outcomes[detached] = 1 })},
		}, 1, nil, "store the mount is detached; want success"},
		{"several findings", []message{{State: with(func(s *state) { s.Counters[misuse], s.Counters[outlived] = 1, 1 })}}, 2, nil,
			"shows and stores that went on"},
		{"an order of locks", []message{
			{Order: "WARNING: possible circular locking dependency detected\n"},
			{State: with(func(s *state) { s.Counters[wrongOrder] = 4 })},
		}, 4, nil, "WARNING: possible circular"},
		{"a lost object", []message{{State: calm()}, {Left: &left{Objects: map[string]int{"c": 2}}}}, 2, nil, `cache "c": 2 objects are live`},
		{"memory", []message{{State: calm()}, {Left: &left{Closed: true, Memory: 4096}}}, 1, nil, "4096 bytes are in use by a closed allocator"},
		{"memory of an open allocator", []message{{State: calm()}, {Left: &left{Memory: 4096}}}, 0, nil, ""},
		{"lists that differ", []message{{State: calm()}, {Left: &left{Caches: []string{"a"}, Files: []string{"a"}, Second: []string{"a", "b"}}}}, 1, nil,
			`the second tree shows the caches ["a" "b"]; the allocator has ["a"]`},
		{"no collision", []message{{State: with(func(s *state) { s.Counters[drainsWaited], s.Counters[rcuParallel] = 0, 0 })}}, 0,
			[]string{counterRules[drainsWaited].name, counterRules[rcuParallel].name}, ""},
		{"no collision without the actors for it", []message{{State: with(func(s *state) { s.Counters[writersWaited], s.Counters[atLimit] = 0, 0 })}}, 0, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, errs, v := judged(t, judgeConfig{Duration: time.Hour, Deadline: time.Hour, Actors: Actors{"destroy_rcu": 1}}, func(w *fakeWorld) {
				w.say(t, message{Hello: os.Getpid()})
				w.say(t, tc.say...)
				last := calm()
				for _, m := range tc.say {
					if m.State != nil {
						last = m.State
					}
				}
				w.say(t, message{State: last, Bye: true})
			}, nil)
			if !v.Begun || !v.Ended || v.Lost || v.Silent || v.Violations != tc.violations || strings.Join(v.Missing, ",") != strings.Join(tc.missing, ",") {
				t.Errorf("verdict %+v; want %d violations, missing %q", v, tc.violations, tc.missing)
			}
			if !strings.Contains(errs, tc.want) || tc.want == "" && errs != "" {
				t.Errorf("standard error %q; want %q in it", errs, tc.want)
			}
			if !strings.Contains(out, "operations a second") {
				t.Errorf("standard output %q; want the table", out)
			}
		})
	}
}

// The judge asks a world to end that has done wrong, or whose time is over, and
// does not wait for one that does not answer.
func TestJudgeAsks(t *testing.T) {
	wait := func(w *fakeWorld, want string) {
		if got := <-w.asks; got != want {
			t.Errorf("the judge asks for %q; want %q", got, want)
		}
	}
	stuck := calm()
	stuck.Calls = []call{{0, 1, opDestroy, "s1"}, {1, 1, opStore, "s1/shrink"}}
	for _, tc := range []struct {
		name  string
		c     judgeConfig
		world func(w *fakeWorld)
		want  verdict
		errs  string
	}{
		{"a violation", judgeConfig{Duration: time.Hour, Deadline: time.Hour}, func(w *fakeWorld) {
			s := calm()
			s.Counters[damage] = 1
			w.say(t, message{State: s})
			wait(w, askEnd)
			w.say(t, message{State: s, Bye: true})
		}, verdict{Begun: true, Ended: true, Violations: 1}, "violation: objects that did not fit"},
		{"the time is over", judgeConfig{Duration: time.Millisecond, Deadline: time.Hour}, func(w *fakeWorld) {
			wait(w, askEnd)
			w.say(t, message{State: calm(), Bye: true})
		}, verdict{Begun: true, Ended: true}, ""},
		{"a call does not end", judgeConfig{Duration: time.Hour, Deadline: 200 * time.Millisecond}, func(w *fakeWorld) {
			asked := make(chan struct{})
			go func() {
				wait(w, askStacks)
				close(asked)
			}()
			for said := false; !said; {
				select {
				case <-asked:
					w.say(t, message{Stacks: "goroutine 1 [running]:\nmain.main()"})
					said = true
				case <-time.After(10 * time.Millisecond):
					_ = w.enc.Encode(message{State: stuck})
				}
			}
		}, verdict{Begun: true, Violations: 1}, `"s1/shrink"`},
		{"silence", judgeConfig{Duration: time.Hour, Deadline: 200 * time.Millisecond}, func(w *fakeWorld) {
			w.say(t, message{State: calm()})
			<-t.Context().Done()
		}, verdict{Begun: true, Silent: true, Violations: 1}, "has said nothing for 0."},
		{"the end", judgeConfig{Duration: time.Hour, Deadline: time.Hour}, func(w *fakeWorld) {
			w.say(t, message{State: calm()})
		}, verdict{Begun: true, Lost: true, Violations: 1}, "has ended before its time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, errs, v := judged(t, tc.c, func(w *fakeWorld) {
				w.say(t, message{Hello: os.Getpid()})
				tc.world(w)
			}, nil)
			v.Missing = nil
			if v.Begun != tc.want.Begun || v.Ended != tc.want.Ended || v.Lost != tc.want.Lost || v.Silent != tc.want.Silent || v.Violations != tc.want.Violations {
				t.Errorf("verdict %+v; want %+v", v, tc.want)
			}
			if !strings.Contains(errs, tc.errs) {
				t.Errorf("standard error %q; want %q in it", errs, tc.errs)
			}
		})
	}
	t.Run("signals", func(t *testing.T) {
		stop := make(chan os.Signal, 1)
		stop <- syscall.SIGTERM
		_, _, v := judged(t, judgeConfig{Duration: time.Hour, Deadline: time.Hour}, func(w *fakeWorld) {
			w.say(t, message{Hello: os.Getpid()})
			wait(w, askEnd)
			stop <- syscall.SIGTERM
			<-t.Context().Done()
		}, stop)
		if v.Ended || v.Violations != 0 {
			t.Errorf("verdict after two signals %+v; want no violation, and no end", v)
		}
	})
	t.Run("no world", func(t *testing.T) {
		_, _, v := judged(t, judgeConfig{Duration: time.Hour, Deadline: time.Hour}, func(*fakeWorld) {}, nil)
		if v.Begun || v.Lost || v.Violations != 0 {
			t.Errorf("verdict on a world that never began %+v; want none", v)
		}
	})
}

// TestRules holds that there is a rule for all that is counted, and that each that
// can be broken is explained.
func TestRules(t *testing.T) {
	for o := range ops {
		if r := opRules[o]; r.name == "" || len(r.may) == 0 || r.explanation()[1] == "" {
			t.Errorf("operation %d: %+v; want a name, outcomes and an explanation", o, r)
		}
	}
	for c := range counters {
		if r := counterRules[c]; r.name == "" || r.must == beZero && c != wrongOrder && (r.why[0] == "" || r.why[1] == "") {
			t.Errorf("counter %d: %+v; want a name, and two lines if it must be zero", c, r)
		}
		if needs := counterRules[c].needs; needs != "" && actorKinds[needs].run == nil {
			t.Errorf("counter %d needs actors %q, of which there are none", c, needs)
		}
	}
	for name, k := range actorKinds {
		if k.about == "" && !strings.HasPrefix(name, "bad-") {
			t.Errorf("users are not told what actor %q does", name)
		}
	}
}

// TestExplain derives what went wrong from what stacks and reports show.
func TestExplain(t *testing.T) {
	store := "goroutine 1:\ncpu.(*Hotplug).RLockContext(\nsysfs.(*File).Store("
	plug := "goroutine 2:\ncpu.(*Hotplug).Lock("
	drain := "goroutine 3:\nslabfs/internal/lockdep.(*Cond).Wait(\nsysfs.(*Kobject).Remove(\nalloc.(*Allocator).destroyLocked("
	notify := "goroutine 4:\nunix.writev(\nfuse.(*Server).DeleteNotify(\nalloc.(*Allocator).destroyLocked("
	publish := "goroutine 5:\nlockdep.(*Mutex).Lock(\nalloc.(*Allocator).Caches(\nstress.(*census).Publish(\nalloc.(*Allocator).NewCache("
	for _, tc := range []struct {
		name, want string
		stacks     []string
	}{
		{"drain", "which drains with the lock held", []string{store, store, plug, drain}},
		{"notification", "which notifies with the lock held", []string{store, plug, notify}},
		{"publish", "publishes with the lock held", []string{publish, store}},
		{"no writer", "none of the known circles", []string{store, drain}},
		{"no store", "none of the known circles", []string{plug, drain}},
		{"nothing", "none of the known circles", nil},
	} {
		got, parties := explainHang(tc.stacks)
		if len(got) != 3 || len(parties) == 0 || !strings.Contains(strings.Join(got, "\n"), tc.want) {
			t.Errorf("%s: %q; want %q in it", tc.name, got, tc.want)
		}
	}
	const tail = "x/1 is trying to acquire lock:\n0x1 (B){+.+.}-{0:0}, at: f+0x1 f.go:1\n\nbut task is already holding lock:\n0x2 (A){+.+.}-{0:0}, at: g+0x2 g.go:2\n"
	for _, tc := range []struct{ report, want string }{
		{"WARNING: possible circular locking dependency detected\n" + tail, "A --> B --> A is a circle"},
		{"WARNING: possible circular locking dependency detected\n" + tail + "Chain exists of:\n  B --> C --> A\n\n", "B --> C --> A --> B is a circle"},
		{"WARNING: possible recursive locking detected\n" + tail, "possible recursive locking detected: B, with A held"},
		{"", "?"},
	} {
		if got := explainOrder(tc.report); !strings.Contains(got[0], tc.want) {
			t.Errorf("explainOrder(%q) = %q; want %q in it", tc.report, got, tc.want)
		}
	}
}

func TestQuartiles(t *testing.T) {
	for _, tc := range []struct {
		list           []float64
		low, mid, high float64
	}{
		{nil, 0, 0, 0},
		{[]float64{5}, 5, 5, 5},
		{[]float64{4, 1, 3, 2}, 2, 3, 4},
	} {
		if low, mid, high := quartiles(tc.list); low != tc.low || mid != tc.mid || high != tc.high {
			t.Errorf("quartiles(%v) = %v, %v, %v; want %v, %v, %v", tc.list, low, mid, high, tc.low, tc.mid, tc.high)
		}
	}
}
