package cpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

func TestParseList(t *testing.T) {
	for _, tc := range []struct {
		text, want string
		count      int
		limit      int
		err        error
	}{
		{"", "", 0, 0, nil},
		{"0\n", "0", 1, 1, nil},
		{"0-1\n", "0-1", 2, 2, nil},
		{"0-3,8,10-11", "0-3,8,10-11", 7, 12, nil},
		{"3,1,2", "1-3", 3, 4, nil},
		{"64,128-129", "64,128-129", 3, 130, nil},
		{"3-1", "", 0, 0, ErrSyntax},
		{"-1", "", 0, 0, ErrSyntax},
		{"0,", "", 0, 0, ErrSyntax},
		{"a", "", 0, 0, ErrSyntax},
		{"0-99999999", "", 0, 0, ErrSyntax},
	} {
		m, err := ParseList(tc.text)
		if m.String() != tc.want || m.Count() != tc.count || m.Limit() != tc.limit || !errors.Is(err, tc.err) {
			t.Errorf("ParseList(%q) = %q (%d CPUs, limit %d), %v; want %q (%d, %d), %v",
				tc.text, m, m.Count(), m.Limit(), err, tc.want, tc.count, tc.limit, tc.err)
		}
	}
}

func TestMask(t *testing.T) {
	m := MaskOf(0, 5, 190)
	c := m.Clone()
	c.Clear(5)
	c.Clear(1000)
	if !m.Has(5) || c.Has(5) || c.String() != "0,190" || c.Has(-1) {
		t.Errorf("mask %q, its clone without 5 %q", m, c)
	}
	var all []int
	for n := range m.All() {
		all = append(all, n)
	}
	if len(all) != 3 || all[0] != 0 || all[1] != 5 || all[2] != 190 {
		t.Errorf("All = %v; want [0 5 190]", all)
	}
}

func FuzzParseList(f *testing.F) {
	f.Add("0-3,8")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseList(s)
		if err != nil {
			return
		}
		if again, err := ParseList(m.String()); err != nil || again.String() != m.String() {
			t.Errorf("ParseList(%q) prints %q, which reads as %q, %v", s, m, again, err)
		}
	})
}

func TestMachine(t *testing.T) {
	text, err := os.ReadFile("/sys/devices/system/cpu/possible")
	if err != nil {
		t.Skipf("no sysfs: %v", err)
	}
	if got, want := Possible().String(), strings.TrimSpace(string(text)); got != want {
		t.Errorf("Possible() = %q; the kernel says %q", got, want)
	}
	if n := Present().Count(); n == 0 {
		t.Error("Present() is empty")
	}
}

func TestCurrent(t *testing.T) {
	limit := Possible().Limit()
	for range 1000 {
		if n := Current(limit); n < 0 || n >= limit {
			t.Fatalf("Current(%d) = %d", limit, n)
		}
	}
	if n := Current(1); n != 0 {
		t.Errorf("Current(1) = %d; want 0", n)
	}
}

// Where the CPU cannot be read, and for CPUs beyond the limit, there is a number too.
func TestCurrentSlow(t *testing.T) {
	Current(1) // the probe
	defer CanRead.Store(CanRead.Swap(no))
	for limit := 1; limit <= 100; limit++ {
		if n := Current(limit); n < 0 || n >= limit || n != currentSlow(limit) {
			t.Errorf("Current(%d) = %d, currentSlow of it %d; want the same number, below it", limit, n, currentSlow(limit))
		}
	}
}

func BenchmarkCurrent(b *testing.B) {
	limit := Possible().Limit()
	for b.Loop() {
		Current(limit)
	}
}

func TestHotplug(t *testing.T) {
	var h Hotplug
	h.Init(MaskOf(0, 2))
	if h.Online().String() != "0,2" || h.Possible().String() != "0,2" {
		t.Errorf("online %q, possible %q; want 0,2 twice", h.Online(), h.Possible())
	}
	h.RLock()
	locked := make(chan bool)
	go func() {
		h.Lock()
		h.Unlock()
		close(locked)
	}()
	for h.WritersWaited() == 0 {
		runtime.Gosched()
	}
	h.RUnlock()
	<-locked
}

var errRefused = errors.New("refused")

// A machine is a Hotplug whose states record what happens.
type machine struct {
	Hotplug
	t      *testing.T
	log    []string
	refuse string // the call that fails
}

func newMachine(t *testing.T, possible Mask) *machine {
	m := &machine{t: t}
	m.Init(possible)
	return m
}

func (m *machine) state(name string) *State {
	note := func(dir string) func(int) error {
		return func(n int) error {
			call := fmt.Sprint(dir, name, n)
			if call == m.refuse || m.refuse == "all" {
				m.log = append(m.log, call+"!")
				return errRefused
			}
			m.log = append(m.log, fmt.Sprint(call, "(", m.Online(), ")"))
			return nil
		}
	}
	return &State{Name: name, Online: note("+"), Offline: note("-")}
}

// want compares what has happened since the last call, and which CPUs are online now.
func (m *machine) want(what, log, online string) {
	m.t.Helper()
	if got := strings.Join(m.log, " "); got != log {
		m.t.Errorf("%s: %s; want %s", what, got, log)
	}
	if got := m.Online().String(); got != online {
		m.t.Errorf("%s: online are %q; want %q", what, got, online)
	}
	m.log = nil
}

func (m *machine) must(err, want error) {
	m.t.Helper()
	if !errors.Is(err, want) {
		m.t.Errorf("%v; want %v", err, want)
	}
}

// States are gone through in order by a CPU that comes, and backwards by one that
// goes, off the mask first; what was done is undone if one of them refuses, in each place.
func TestStates(t *testing.T) {
	ctx := context.Background()
	m := newMachine(t, MaskOf(0, 1, 5))
	a, b, c := m.state("a"), m.state("b"), m.state("c")
	for _, s := range []*State{a, b, c} {
		m.must(m.Register(s), nil)
	}
	m.want("register", "+a0(0-1,5) +a1(0-1,5) +a5(0-1,5) +b0(0-1,5) +b1(0-1,5) +b5(0-1,5) +c0(0-1,5) +c1(0-1,5) +c5(0-1,5)", "0-1,5")
	for _, tc := range []struct {
		cpu    int
		online bool
		refuse string
		err    error
		log    string
		after  string
	}{
		{5, true, "", nil, "", "0-1,5"},
		{5, false, "-c5", errRefused, "-c5!", "0-1,5"},
		{5, false, "-b5", errRefused, "-c5(0-1) -b5! +c5(0-1)", "0-1,5"},
		{5, false, "-a5", errRefused, "-c5(0-1) -b5(0-1) -a5! +b5(0-1) +c5(0-1)", "0-1,5"},
		{5, false, "", nil, "-c5(0-1) -b5(0-1) -a5(0-1)", "0-1"},
		{5, false, "all", nil, "", "0-1"},
		{5, true, "+a5", errRefused, "+a5!", "0-1"},
		{5, true, "+b5", errRefused, "+a5(0-1) +b5! -a5(0-1)", "0-1"},
		{5, true, "+c5", errRefused, "+a5(0-1) +b5(0-1) +c5! -b5(0-1) -a5(0-1)", "0-1"},
		{5, true, "", nil, "+a5(0-1) +b5(0-1) +c5(0-1)", "0-1,5"},
		{1, false, "", nil, "-c1(0,5) -b1(0,5) -a1(0,5)", "0,5"},
		{0, false, "", nil, "-c0(5) -b0(5) -a0(5)", "5"},
		{5, false, "", ErrLast, "", "5"},
		{5, true, "", nil, "", "5"},
		{0, true, "", nil, "+a0(5) +b0(5) +c0(5)", "0,5"},
		{5, false, "", nil, "-c5(0) -b5(0) -a5(0)", "0"},
		{5, true, "", nil, "+a5(0) +b5(0) +c5(0)", "0,5"},
		{4, false, "", ErrNotPossible, "", "0,5"},
		{-1, true, "", ErrNotPossible, "", "0,5"},
		{6, true, "", ErrNotPossible, "", "0,5"},
	} {
		m.refuse = tc.refuse
		err := m.SetOnline(ctx, tc.cpu, tc.online)
		m.must(err, tc.err)
		what := fmt.Sprintf("SetOnline(%d, %v), refused: %s", tc.cpu, tc.online, tc.refuse)
		m.want(what, tc.log, tc.after)
		if errors.Is(tc.err, errRefused) {
			if name := fmt.Sprintf("state %q of CPU %d", tc.refuse[1:2], tc.cpu); !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v; want one with %s", what, err, name)
			}
		}
	}
	m.refuse = ""
	m.must(m.Unregister(b), nil)
	m.want("unregister", "-b5(0,5) -b0(0,5)", "0,5")
	m.must(m.SetOnline(ctx, 1, true), nil)
	m.want("without b", "+a1(0,5) +c1(0,5)", "0-1,5")
}

// A state that a CPU refuses when it is added, or removed, leaves all as it was.
func TestRegisterRefused(t *testing.T) {
	m := newMachine(t, MaskOf(0, 1, 2))
	m.must(m.SetOnline(context.Background(), 1, false), nil)
	s := m.state("s")
	for _, tc := range []struct{ refuse, log string }{
		{"+s0", "+s0!"},
		{"+s2", "+s0(0,2) +s2! -s0(0,2)"},
	} {
		m.refuse = tc.refuse
		m.must(m.Register(s), errRefused)
		m.want("register, refused: "+tc.refuse, tc.log, "0,2")
		m.must(m.SetOnline(context.Background(), 1, true), nil)
		m.must(m.SetOnline(context.Background(), 1, false), nil)
		m.want("not registered", "", "0,2")
	}
	m.refuse = ""
	m.must(m.Register(s), nil)
	m.want("register", "+s0(0,2) +s2(0,2)", "0,2")
	m.refuse = "-s0"
	m.must(m.Unregister(s), errRefused)
	m.want("unregister, refused", "-s2(0,2) -s0! +s2(0,2)", "0,2")
	m.refuse = ""
	m.must(m.SetOnline(context.Background(), 1, true), nil)
	m.want("still registered", "+s1(0,2)", "0-2")
}

// If undoing fails too, the CPU stays where it is; the next attempt goes on from there.
func TestUndoRefused(t *testing.T) {
	m := newMachine(t, MaskOf(0, 1))
	a, b := m.state("a"), m.state("b")
	m.must(m.Register(a), nil)
	m.must(m.Register(b), nil)
	m.log = nil
	offline := a.Offline
	a.Offline = func(n int) error {
		m.refuse = "all"
		return offline(n)
	}
	err := m.SetOnline(context.Background(), 1, false)
	m.must(err, errRefused)
	for _, want := range []string{`state "a" of CPU 1, offline: refused`, `state "b" of CPU 1, online: refused`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want one that says %s", err, want)
		}
	}
	m.want("refused twice", "-b1(0) -a1! +b1!", "0-1")
	a.Offline, m.refuse = offline, ""
	m.must(m.SetOnline(context.Background(), 1, false), nil)
	m.want("again", "-a1(0)", "0")
	m.must(m.SetOnline(context.Background(), 1, true), nil)
	m.want("back", "+a1(0) +b1(0)", "0-1")
}

// A wait for the lock ends with the context, and nothing has happened.
func TestSetOnlineInterrupted(t *testing.T) {
	m := newMachine(t, MaskOf(0, 1))
	m.must(m.Register(m.state("s")), nil)
	m.log = nil
	m.RLock()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- m.SetOnline(ctx, 1, false) }()
	for m.WritersWaited() == 0 {
		runtime.Gosched()
	}
	cancel()
	m.must(<-ended, context.Canceled)
	m.want("interrupted", "", "0-1")
	m.RUnlock()
	m.must(m.SetOnline(ctx, 1, false), nil) // it waits for nobody
	m.want("offline", "-s1(0)", "0")
}
