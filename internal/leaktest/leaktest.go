package leaktest

import (
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience is how long a goroutine may take to end that has nothing left to do.
const patience = time.Minute

// A Snapshot has the goroutines of a moment.
type Snapshot map[string]bool

// Take returns those that run now.
func Take() Snapshot {
	s := make(Snapshot)
	for id := range stacks() {
		s[id] = true
	}
	return s
}

// ours matches the stack of a goroutine that runs code of this module, or of the FUSE
// library, or was started by it.
var ours = regexp.MustCompile(`(?m)^(created by )?(` + regexp.QuoteMeta(module) + `/|github\.com/hanwen/go-fuse)`)

// module is the path of this module, which is renamed when it is published.
var module = strings.TrimSuffix(reflect.TypeFor[Snapshot]().PkgPath(), "/internal/leaktest")

// stacks returns the goroutines besides the caller's, by the first words of their
// stack: "goroutine 7".
func stacks() map[string]string {
	buf := make([]byte, 1<<16)
	for n := runtime.Stack(buf, true); ; n = runtime.Stack(buf, true) {
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	found := make(map[string]string)
	for _, stack := range strings.Split(string(buf), "\n\n")[1:] { // the caller's comes first
		id, _, _ := strings.Cut(stack, " [")
		found[id] = stack
	}
	return found
}

// Left waits until no goroutine of this module runs that did not when the snapshot
// was taken. If some do not end, the error has their stacks.
func (s Snapshot) Left() error {
	end := time.Now().Add(patience)
	for delay := time.Millisecond; ; delay = min(2*delay, time.Second) {
		var left []string
		for id, stack := range stacks() {
			if !s[id] && ours.MatchString(stack) {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
		}
		time.Sleep(delay)
	}
}

// Check fails the test if it leaves a goroutine. What is cleaned up before, since
// it was registered later, counts no more.
func Check(tb testing.TB) {
	tb.Helper()
	before := Take()
	tb.Cleanup(func() {
		if err := before.Left(); err != nil {
			tb.Error(err)
		}
	})
}
