package workqueue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"slabfs/internal/lockdep"
)

// modelItems is the number of items of a program.
const modelItems = 4

// A model is what a queue must do, in a form that is plainly right: one
// goroutine, no lock, and a search where the queue has a list. Items run until
// they are told to return.
type model struct {
	max       int
	now       time.Duration
	due       map[int]time.Duration // items that wait for their time
	ready     []queueing
	running   []queueing
	started   []int // items, in the order in which they began
	lastID    int
	canceling map[int]int
	destroyed bool
	waits     []*modelWait
}

// A queueing is one entry of an item into the queue.
type queueing struct{ item, id int }

// A modelWait is a call that waits, and when it may return.
type modelWait struct {
	what     string
	over     func() bool
	ended    func() // what its return changes
	draining bool
	done     bool
	real     *atomic.Bool // the call has returned
}

func (m *model) isRunning(item int) bool {
	return slices.ContainsFunc(m.running, func(q queueing) bool { return q.item == item })
}

func (m *model) isReady(item int) bool {
	return slices.ContainsFunc(m.ready, func(q queueing) bool { return q.item == item })
}

func (m *model) pending(item int) bool {
	_, timed := m.due[item]
	return timed || m.isReady(item)
}

func (m *model) refusal(item int, fromItem bool, after time.Duration) error {
	draining := slices.ContainsFunc(m.waits, func(w *modelWait) bool { return w.draining && !w.done })
	switch {
	case m.canceling[item] > 0:
		return ErrCanceled
	case m.destroyed && (after > 0 || !fromItem):
		return ErrDestroyed
	case draining && !fromItem:
		return ErrDraining
	}
	return nil
}

func (m *model) put(item int, after time.Duration) {
	if after > 0 {
		m.due[item] = m.now + after
		return
	}
	m.lastID++
	m.ready = append(m.ready, queueing{item, m.lastID})
}

func (m *model) queue(item int, fromItem bool, after time.Duration) (bool, error) {
	if m.pending(item) {
		return false, nil
	}
	if err := m.refusal(item, fromItem, after); err != nil {
		return false, err
	}
	m.put(item, after)
	return true, nil
}

func (m *model) mod(item int, fromItem bool, after time.Duration) (bool, error) {
	if err := m.refusal(item, fromItem, after); err != nil {
		return m.pending(item), err
	}
	was := m.cancel(item)
	m.put(item, after)
	return was, nil
}

func (m *model) cancel(item int) bool {
	was := m.pending(item)
	delete(m.due, item)
	m.ready = slices.DeleteFunc(m.ready, func(q queueing) bool { return q.item == item })
	return was
}

// outstanding returns a function that reports whether none of the queueings
// that are there now, of the item or of all (-1), is there any more.
func (m *model) outstanding(item int) func() bool {
	ids := map[int]bool{}
	for _, q := range slices.Concat(m.ready, m.running) {
		if item < 0 || q.item == item {
			ids[q.id] = true
		}
	}
	return func() bool {
		return !slices.ContainsFunc(slices.Concat(m.ready, m.running), func(q queueing) bool { return ids[q.id] })
	}
}

// empty reports whether the queue has nothing to do.
func (m *model) empty() bool { return len(m.ready)+len(m.running) == 0 }

// advance lets time pass.
func (m *model) advance(d time.Duration) {
	for end := m.now + d; ; {
		first := -1
		for item, due := range m.due {
			if due <= end && (first < 0 || due < m.due[first]) {
				first = item
			}
		}
		if first < 0 {
			m.now = end
			return
		}
		m.now = m.due[first]
		delete(m.due, first)
		m.put(first, 0)
		m.settle()
	}
}

// settle begins what can begin and ends the waits that are over.
func (m *model) settle() {
	for len(m.running) < m.max {
		i := slices.IndexFunc(m.ready, func(q queueing) bool { return !m.isRunning(q.item) })
		if i < 0 {
			break
		}
		m.running = append(m.running, m.ready[i])
		m.started = append(m.started, m.ready[i].item)
		m.ready = slices.Delete(m.ready, i, i+1)
	}
	for _, w := range m.waits {
		if !w.done && w.over() {
			w.done = true
			w.ended()
		}
	}
}

// FuzzQueue reads its input as a program: the first byte is MaxActive, every
// two others an operation and its operands. After each operation the queue and
// the model must have begun the same runs, and ended the same waits.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 1, 0, 1, 0, 6, 0, 1, 2})
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 7, 0, 8, 0, 1, 0, 1, 1, 1, 0, 1, 0})
	f.Add([]byte{2, 2, 5, 3, 9, 4, 1, 10, 3, 9, 0, 5, 200, 0, 1})
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		prog := make([]byte, 1+2*r.IntN(60))
		for i := range prog {
			prog[i] = byte(r.Uint32())
		}
		f.Add(prog)
	}
	f.Fuzz(func(t *testing.T, prog []byte) {
		if len(prog) > 1 {
			synctest.Test(t, func(t *testing.T) { runProgram(t, prog) })
		}
	})
}

func runProgram(t *testing.T, prog []byte) {
	maxActive := int(prog[0])%3 + 1
	m := &model{max: maxActive, due: map[int]time.Duration{}, canceling: map[int]int{}}
	q := New("fuzz", Options{MaxActive: maxActive})
	var mu lockdep.Mutex
	var started []int // under mu
	var items [modelItems]*Work
	var step [modelItems]chan func() // run by the item; nil: return
	for i := range items {
		step[i] = make(chan func())
		items[i] = q.NewWork(func() {
			mu.Lock()
			started = append(started, i)
			mu.Unlock()
			for f := range step[i] {
				if f == nil {
					return
				}
				f()
			}
		})
	}
	what := "begin"
	check := func() {
		t.Helper()
		synctest.Wait()
		m.settle()
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(started, m.started) {
			t.Fatalf("program %v: %s: items began in the order %v; want %v", prog, what, started, m.started)
		}
		for _, w := range m.waits {
			if got := w.real.Load(); got != w.done {
				t.Fatalf("program %v: %s: %s has returned: %v; want %v", prog, what, w.what, got, w.done)
			}
		}
	}
	wait := func(w *modelWait, call func()) {
		if w.ended == nil {
			w.ended = func() {}
		}
		w.real = new(atomic.Bool)
		m.waits = append(m.waits, w)
		go func() {
			call()
			w.real.Store(true)
		}()
	}
	end := func(i int) {
		m.running = slices.DeleteFunc(m.running, func(q queueing) bool { return q.item == i })
		step[i] <- nil
	}

	for pc := 1; pc+1 < len(prog); pc += 2 {
		op, i, by := prog[pc]%12, int(prog[pc+1])%modelItems, int(prog[pc+1]/modelItems)%(modelItems+1)-1
		// No two timers expire at the same time: their order would be open.
		after := time.Duration(prog[pc+1]/16)*time.Second + time.Duration(pc)*time.Microsecond
		if prog[pc+1]/16 == 0 {
			after = 0
		}
		fromItem := by >= 0 && m.isRunning(by)
		do := func(f func()) { // here, or from within the item by
			if fromItem {
				step[by] <- f
			} else {
				f()
			}
			synctest.Wait()
		}
		what = fmt.Sprintf("pc %d: op %d on item %d by %d, after %v", pc, op, i, by, after)
		switch op {
		case 0, 1:
			if m.isRunning(i) {
				end(i)
			} else {
				queue(t, what, do, m.queue, items[i].QueueAfter, i, fromItem, 0)
			}
		case 2, 3:
			queue(t, what, do, m.queue, items[i].QueueAfter, i, fromItem, after)
		case 4:
			queue(t, what, do, m.mod, items[i].Mod, i, fromItem, after)
		case 5:
			d := time.Duration(prog[pc+1]/8) * time.Second
			m.advance(d)
			time.Sleep(d)
		case 6:
			var got bool
			do(func() { got = items[i].Cancel() })
			if want := m.cancel(i); got != want {
				t.Fatalf("program %v: %s: Cancel() = %v; want %v", prog, what, got, want)
			}
		case 7:
			if _, timed := m.due[i]; timed {
				delete(m.due, i)
				m.put(i, 0)
			}
			wait(&modelWait{what: "Work.Flush", over: m.outstanding(i)}, items[i].Flush)
		case 8:
			wait(&modelWait{what: "Queue.Flush", over: m.outstanding(-1)}, q.Flush)
		case 9:
			want := m.cancel(i)
			m.canceling[i]++
			wait(&modelWait{what: "CancelSync", over: func() bool { return !m.isRunning(i) }, ended: func() { m.canceling[i]-- }}, func() {
				if got := items[i].CancelSync(); got != want {
					t.Errorf("program %v: pc %d: CancelSync() = %v; want %v", prog, pc, got, want)
				}
			})
		case 10:
			wait(&modelWait{what: "Drain", over: m.empty, draining: true}, q.Drain)
		case 11:
			if prog[pc+1] > 32 { // rarely: little can happen afterwards
				continue
			}
			m.destroyed = true
			clear(m.due)
			wait(&modelWait{what: "Destroy", over: m.empty}, q.Destroy)
		}
		check()
	}

	what = "end"
	m.destroyed = true
	clear(m.due)
	wait(&modelWait{what: "Destroy", over: m.empty}, q.Destroy)
	for check(); len(m.running) > 0; check() {
		end(m.running[0].item)
	}
	for _, w := range m.waits {
		if !w.done {
			t.Errorf("program %v: %s waits though the queue is empty", prog, w.what)
		}
	}
}

// queue does one queueing with the queue and with the model, and compares what
// they return.
func queue(t *testing.T, what string, do func(func()), model func(int, bool, time.Duration) (bool, error),
	real func(time.Duration) (bool, error), item int, fromItem bool, after time.Duration) {
	t.Helper()
	var got bool
	var err error
	do(func() { got, err = real(after) })
	want, wantErr := model(item, fromItem, after)
	if got != want || !errors.Is(err, wantErr) {
		t.Fatalf("%s: queued %v, %v; want %v, %v", what, got, err, want, wantErr)
	}
}
