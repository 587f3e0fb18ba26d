package fusefs

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"slabfs/sysfs"
)

// notifyWait is how long the kernel may take for one notification before
// removers no longer wait for it: as long as it believes in a name by itself.
// Each waits its turn before that, however many are in front of it.
const notifyWait = maxTimeout

// tidyAfter is how long the kernel keeps what is hidden, so that the remover, and who
// waits for it, goes on first.
const tidyAfter = time.Millisecond

// A notifier tells the kernel that directory entries are gone. Removers wait for hide,
// after which no path leads there; what the kernel remembers of the entry goes in tidy.
// A second later each of leftovers gets a tidy of its own, once.
type notifier struct {
	hide, tidy func(sysfs.Removal)
	leftovers  func() (nodes []sysfs.Node, later bool)
	wait       atomic.Int64 // A: notifyWait, except in tests
	jobs       chan notice
	quit       chan struct{}
	aside      *aside
	busy       atomic.Int64 // A: when the notification under way began, in Unix nanoseconds; 0: none

	sent, late, skipped atomic.Uint64 // A
}

type notice struct {
	sysfs.Removal
	done chan struct{}
}

func newNotifier(hide, tidy func(sysfs.Removal), leftovers func() ([]sysfs.Node, bool)) *notifier {
	n := &notifier{hide: hide, tidy: tidy, leftovers: leftovers, jobs: make(chan notice), quit: make(chan struct{})}
	n.wait.Store(int64(notifyWait))
	n.aside = newAside(n.quit)
	go n.loop()
	return n
}

func (n *notifier) loop() {
	var gone []sysfs.Removal // to be tidied, from when the first timer says so
	tidy, look := time.NewTimer(0), time.NewTimer(0)
	tidy.Stop()
	look.Stop()
	looks := false // look is set
	lookLater := func() {
		if !looks {
			looks = true
			look.Reset(settles)
		}
	}
	timed := func(f func(sysfs.Removal), r sysfs.Removal) {
		n.busy.Store(time.Now().UnixNano())
		f(r)
		n.busy.Store(0)
		lookLater() // also for removals that were skipped meanwhile
	}
	for {
		select {
		case j := <-n.jobs:
			timed(n.hide, j.Removal)
			n.sent.Add(1)
			close(j.done)
			if gone = append(gone, j.Removal); len(gone) == 1 {
				tidy.Reset(tidyAfter)
			}
		case <-tidy.C: // one at a time, so that no remover waits for many
			timed(n.tidy, gone[0])
			gone[0] = sysfs.Removal{}
			if gone = gone[1:]; len(gone) > 0 {
				tidy.Reset(0)
			} else {
				gone = nil
			}
		case <-look.C:
			looks = false
			left, later := n.leftovers()
			for _, node := range left {
				gone = append(gone, sysfs.Removal{Parent: node.Parent(), Node: node})
			}
			if len(left) > 0 {
				tidy.Reset(0)
			}
			if later {
				lookLater()
			}
		case <-n.quit:
			return
		}
	}
}

// left returns for how long the kernel may still take for the notification under
// way: 0 or less if it is stuck.
func (n *notifier) left() time.Duration {
	if began := n.busy.Load(); began != 0 {
		return time.Duration(n.wait.Load()) - time.Since(time.Unix(0, began))
	}
	return time.Duration(n.wait.Load())
}

// entry sends one notification and waits until the entry is hidden, as long as
// the kernel answers notifications: this one, and those in front of it.
func (n *notifier) entry(r sysfs.Removal) { n.aside.do(func() { n.send(r) }) }

// send is what entry waits for.
func (n *notifier) send(r sysfs.Removal) {
	j := notice{r, make(chan struct{})}
	jobs, missed := n.jobs, &n.skipped
	for left := n.left(); left > 0; left = n.left() {
		turn := time.NewTimer(left)
		select {
		case jobs <- j:
			jobs, missed = nil, &n.late // it is under way
		case <-j.done:
			turn.Stop()
			return
		case <-turn.C:
		case <-n.quit:
			turn.Stop()
			return
		}
		turn.Stop()
	}
	missed.Add(1)
}

// stop ends the loop, without waiting for a notification under way.
func (n *notifier) stop() { close(n.quit) }

// hide makes the kernel ask again for a name that is gone, whoever looks next: it
// costs the same however much the kernel knows of what was there. Where the kernel
// cannot be told that, tidy's notification does it, and the remover waits for all of it;
// also where the answer to a lookup that came before the removal may come in after the
// notification: that would make an entry that has expired a good one again.
func (s *Server) hide(r sysfs.Removal) {
	if s.device == nil || s.fs.settling(r.Node) || !expireEntry(s.device, nodeID(r.Parent), r.Node.Name()) {
		s.fuse.EntryNotify(nodeID(r.Parent), r.Node.Name()) // an error means that the kernel did not know the name
	}
	s.fs.disbelieve(r.Node)
}

// tidy makes the kernel forget what it knows of a name that is gone: with a directory
// go all files that were looked up there, microseconds for each, but for those that are
// in use. What is in use itself goes when its last user does. If the name is taken again
// and the kernel knows by whom, it has found out by itself.
func (s *Server) tidy(r sysfs.Removal) {
	if now := r.Parent.Child(r.Node.Name()); now == nil || !s.fs.knows(now) {
		s.fuse.EntryNotify(nodeID(r.Parent), r.Node.Name())
	}
}

// Of FUSE's protocol, which go-fuse does not offer: a notification with flags.
const (
	notifyInvalEntry = 3
	expireOnly       = 1 // Linux 6.2; earlier kernels take the notification for one without flags
)

// expireEntry sends one that lets a directory entry expire. It reports whether the
// kernel knew the entry and took it.
func expireEntry(d *device, parent uint64, name string) bool {
	const header = 16 + 16
	b := make([]byte, 0, header+len(name)+1)
	b = binary.NativeEndian.AppendUint32(b, uint32(cap(b)))
	b = binary.NativeEndian.AppendUint32(b, notifyInvalEntry)
	b = binary.NativeEndian.AppendUint64(b, 0) // of no request
	b = binary.NativeEndian.AppendUint64(b, parent)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)))
	b = binary.NativeEndian.AppendUint32(b, expireOnly)
	b = append(append(b, name...), 0)
	return d.write(b) == nil
}
