package cpu

import (
	"errors"
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
	defer canRead.Store(canRead.Swap(no))
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
