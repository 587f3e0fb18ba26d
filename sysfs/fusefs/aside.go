package fusefs

import "slabfs/internal/lockdep"

// An aside runs functions on goroutines that its own goroutine starts. A caller
// in a bubble of testing/synctest may wait for one: its timers and channels are
// not of that bubble, so that the server's other goroutines can use them.
type aside struct {
	calls chan *call
	quit  chan struct{}

	mu    lockdep.Mutex
	ended *lockdep.Cond // over mu: a call has ended
}

// A call is one function that an aside runs.
type call struct {
	f    func()
	over bool // aside.mu
}

var asideClass = lockdep.NewClass("fusefs_aside")

// newAside returns an aside that runs functions until quit is closed.
func newAside(quit chan struct{}) *aside {
	a := &aside{calls: make(chan *call), quit: quit}
	a.mu.Init(asideClass)
	a.ended = lockdep.NewCond(&a.mu)
	go a.loop()
	return a
}

func (a *aside) loop() {
	for {
		select {
		case c := <-a.calls:
			go a.run(c)
		case <-a.quit:
			return
		}
	}
}

func (a *aside) run(c *call) {
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		c.over = true
		a.ended.Broadcast()
	}()
	c.f()
}

// do runs f and waits until it has returned. After quit it does nothing.
func (a *aside) do(f func()) {
	c := &call{f: f}
	select {
	case a.calls <- c:
	case <-a.quit:
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for !c.over {
		a.ended.Wait()
	}
}
