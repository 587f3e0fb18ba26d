package fusefs

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"slabfs/sysfs"
)

// notifyWait is how long the kernel may take for one notification before
// removers stop waiting. It is also how long the kernel keeps a name without
// notification. A notification in the queue gets its full time when its turn
// comes.
const notifyWait = maxTimeout

// tidyAfter is how long the kernel keeps what is hidden. In that time the
// remover, and goroutines that wait for it, can continue first.
const tidyAfter = time.Millisecond

// A notifier tells the kernel that directory entries are gone. Removers wait
// for hide; after it no path leads to the entry. tidy removes what the kernel
// remembers of the entry. A second later each of leftovers gets a tidy of its
// own, once.
type notifier struct {
	hide, tidy func(sysfs.Removal)
	leftovers  func() (nodes []sysfs.Node, later bool)
	wait       atomic.Int64 // A: notifyWait, except in tests
	jobs       chan notice
	quit       chan struct{}
	aside      *aside
	busy       atomic.Int64 // A: start of the current notification, in Unix ns; 0: none

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
	var gone []sysfs.Removal // to be tidied once the tidy timer fires
	tidy, look := time.NewTimer(0), time.NewTimer(0)
	tidy.Stop()
	look.Stop()
	looks := false // the look timer is set
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
		lookLater() // also for removals that were skipped in the meantime
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

// left returns how much time the kernel still has for the current notification.
// It is 0 or less if that notification is stuck.
func (n *notifier) left() time.Duration {
	if began := n.busy.Load(); began != 0 {
		return time.Duration(n.wait.Load()) - time.Since(time.Unix(0, began))
	}
	return time.Duration(n.wait.Load())
}

// entry sends one notification and waits until the entry is hidden. It waits
// only as long as the kernel answers notifications: this one, and those in
// front of it.
func (n *notifier) entry(r sysfs.Removal) { n.aside.do(func() { n.send(r) }) }

// send does the work of entry.
func (n *notifier) send(r sysfs.Removal) {
	j := notice{r, make(chan struct{})}
	jobs, missed := n.jobs, &n.skipped
	for left := n.left(); left > 0; left = n.left() {
		turn := time.NewTimer(left)
		select {
		case jobs <- j:
			jobs, missed = nil, &n.late // the loop has it
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

// stop ends the loop, without waiting for the current notification.
func (n *notifier) stop() { close(n.quit) }

// hide makes the kernel ask again the next time a client looks up a name that
// is gone. It costs the same however much the kernel knows of what was there.
//
// In two cases hide sends tidy's notification instead, and the remover waits
// for all of it. The first is a kernel that cannot be told to expire an entry.
// The second is a lookup before the removal whose answer may arrive after the
// notification, because that answer would make an expired entry valid again.
func (s *Server) hide(r sysfs.Removal) {
	if s.device == nil || s.fs.settling(r.Node) || !expireEntry(s.device, nodeID(r.Parent), r.Node.Name()) {
		// An error means that the kernel did not know the name.
		s.fuse.EntryNotify(nodeID(r.Parent), r.Node.Name())
	}
	s.fs.disbelieve(r.Node)
}

// tidy makes the kernel forget a name that is gone. With a directory go all
// files that were looked up there, in microseconds for each. Nodes in use stay
// until their last user leaves. If the name is taken again and the kernel knows
// the new node, there is nothing to do.
func (s *Server) tidy(r sysfs.Removal) {
	if now := r.Parent.Child(r.Node.Name()); now == nil || !s.fs.knows(now) {
		s.fuse.EntryNotify(nodeID(r.Parent), r.Node.Name())
	}
}

// Parts of FUSE's protocol that go-fuse does not offer: a notification with
// flags.
const (
	notifyInvalEntry = 3
	expireOnly       = 1 // Linux 6.2; earlier kernels ignore the flag
)

// expireEntry sends a notification that makes a directory entry expire. It
// reports whether the kernel knew the entry and accepted the notification.
func expireEntry(d *device, parent uint64, name string) bool {
	const header = 16 + 16
	b := make([]byte, 0, header+len(name)+1)
	b = binary.NativeEndian.AppendUint32(b, uint32(cap(b)))
	b = binary.NativeEndian.AppendUint32(b, notifyInvalEntry)
	b = binary.NativeEndian.AppendUint64(b, 0) // not a reply to a request
	b = binary.NativeEndian.AppendUint64(b, parent)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)))
	b = binary.NativeEndian.AppendUint32(b, expireOnly)
	b = append(append(b, name...), 0)
	return d.write(b) == nil
}
