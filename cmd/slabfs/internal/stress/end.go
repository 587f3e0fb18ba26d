package stress

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// How a world ends, or is abandoned.

// finish frees everything and reports what is left.
func (w *world) finish() {
	a := w.actors[len(w.actors)-1]
	defer a.caught()
	close(w.exchange)
	for o := range w.exchange {
		w.release(o)
	}
	w.out <- message{Left: w.left(a)}
	_ = a.do(opEnd, "close the allocator", w.a.Close)
	l := w.left(a)
	l.Closed, l.Memory = true, w.a.MemoryUsed()
	w.out <- message{Left: l}
	for _, a := range w.actors {
		if a.client != nil {
			a.client.stop()
		}
	}
	for _, a := range w.actors {
		if a.client != nil && !a.client.gone(5*time.Second) {
			w.saw(stuckClients, "client %d does not end", a.client.cmd.Process.Pid)
		}
	}
	_ = a.do(opEnd, "unmount", func() error { return w.srv.Unmount(context.Background()) })
}

// left describes the state when no actor works.
func (w *world) left(a *actor) *left {
	l := &left{Objects: make(map[string]int), Second: w.census.names()}
	for _, c := range w.a.Caches() {
		l.Caches = append(l.Caches, c.Name(), c.ID())
		if n := c.Stats().Objects; n != 0 {
			l.Objects[c.Name()] = int(n)
		}
	}
	slices.Sort(l.Caches)
	l.Caches = slices.Compact(l.Caches)
	files, _ := a.ask(opList, "sys/kernel/slab", request{Do: "list", Path: w.path("")})
	l.Files = strings.Fields(files)
	return l
}

// abandon ends what is left, without waiting for a process that may hang.
func (w *world) abandon() {
	w.leaving.Store(true)
	for _, a := range w.actors {
		if a.client != nil {
			a.client.kill()
		}
	}
	abort(w.config.Dir)
	if w.config.Made {
		_ = os.Remove(w.config.Dir)
	}
}

// stacks returns the stacks of all goroutines.
func stacks() string {
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size || size >= 64<<20 {
			return string(buf[:n])
		}
	}
}
