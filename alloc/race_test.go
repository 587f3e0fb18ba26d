//go:build race

package alloc

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unsafe"
)

// The race detector sees objects: it reports two goroutines that write to one
// without an order, and nothing where a Free and an Alloc are the order.
func TestRaceOnObject(t *testing.T) {
	if os.Getenv(childEnv) == "planted" {
		a := newAllocator(t, Options{})
		c := newCache(t, a, "raced", 64, CacheOptions{})
		obj := c.Alloc()
		done := make(chan struct{})
		go func() {
			defer close(done)
			*(*int)(obj)++
		}()
		*(*int)(obj)++
		<-done
		c.Free(obj)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), childEnv+"=planted")
	out, err := cmd.CombinedOutput()
	for _, want := range []string{"WARNING: DATA RACE", "race_test.go"} {
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("with a race on an object: %v, and nothing says %q\n%s", err, want, out)
		}
	}
}

// What one owner wrote before it freed an object happens before what the next
// owner does with it, whichever way the object went.
func TestNoRaceBetweenOwners(t *testing.T) {
	a := newAllocator(t, Options{})
	c := newCache(t, a, "owners", 64, CacheOptions{})
	use := func(r *rand.Rand) {
		var objs [100]unsafe.Pointer
		for i := range objs[:1+r.IntN(len(objs))] {
			objs[i] = c.Alloc()
			*(*int)(objs[i]) = i
		}
		for i, obj := range objs {
			if obj != nil {
				*(*int)(obj) += i
				c.Free(obj)
			}
		}
	}
	stop := make(chan struct{})
	wait := disturb(stop, use, use, use, func(*rand.Rand) { flush(t, c) }, func(*rand.Rand) { c.Shrink() })
	r := random(t)
	for range 2000 {
		use(r)
	}
	close(stop)
	wait()
	checkRest(t, c, nil)
}
