package fusefs

import (
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// notifyWait is how long a remover waits for the kernel to hear of it.
const notifyWait = 250 * time.Millisecond

// A notifier tells the kernel that directory entries are gone.
type notifier struct {
	send func(notice) fuse.Status
	jobs chan notice
	quit chan struct{}
	busy atomic.Int64 // A: when the notification under way began, in Unix nanoseconds; 0: none

	sent, late, skipped atomic.Uint64 // A
}

// A notice says that parent has no entry name any more.
type notice struct {
	parent uint64
	name   string
	done   chan struct{}
}

func newNotifier(send func(notice) fuse.Status) *notifier {
	n := &notifier{send: send, jobs: make(chan notice), quit: make(chan struct{})}
	go n.loop()
	return n
}

func (n *notifier) loop() {
	for {
		select {
		case j := <-n.jobs:
			n.busy.Store(time.Now().UnixNano())
			n.send(j) // an error means that the kernel did not know the name
			n.busy.Store(0)
			n.sent.Add(1)
			close(j.done)
		case <-n.quit:
			return
		}
	}
}

// stuck reports whether the notification under way has used up its time.
func (n *notifier) stuck() bool {
	began := n.busy.Load()
	return began != 0 && time.Since(time.Unix(0, began)) >= notifyWait
}

// entry sends one notification and waits for it, up to notifyWait.
func (n *notifier) entry(parent uint64, name string) {
	if n.stuck() {
		n.skipped.Add(1)
		return
	}
	timeout := time.NewTimer(notifyWait)
	defer timeout.Stop()
	j := notice{parent, name, make(chan struct{})}
	select {
	case n.jobs <- j:
	case <-timeout.C:
		n.skipped.Add(1)
		return
	case <-n.quit:
		return
	}
	select {
	case <-j.done:
	case <-timeout.C:
		n.late.Add(1)
	case <-n.quit:
	}
}

// stop ends the loop, without waiting for a notification under way.
func (n *notifier) stop() { close(n.quit) }
