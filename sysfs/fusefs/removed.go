package fusefs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"slabfs/sysfs"
)

// The kernel opens a removed file in one of three cases, and what it has been
// told of names says in which. Nothing is remembered of the client: to a server
// in another PID namespace all clients have the same number.
//
//	too late     It asked for the file's name, and the removal came in between. For a
//	             moment there was no such name: ENOENT. An ESTALE might be the second.
//	by memory    It took the file's name for good, perhaps long after the removal.
//	             ESTALE makes it walk the path again, once, and ask for each name.
//	without path It came by /proc/self/fd, or from within the directory, when the
//	             directory's name was gone. There is one ESTALE, then ENODEV as in sysfs.
//
// While a client walks again, names of files are answered without a time-out,
// so that the open which follows is not taken for one by memory.

// doubts is how long after an ESTALE names of files are not to be believed. The
// client that got it walks again at once, unless the machine is very slow.
const doubts = 10 * time.Second

// believe returns how long the kernel may take the name of n for good, and
// remembers it. walk says that a client is on its way to n and opens it next,
// unless it only looks.
func (f *fileSystem) believe(n sysfs.Node, walk bool) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.knowledge(n)
	if k == nil { // removed and forgotten meanwhile
		return 0
	}
	// The kernel is to learn anew at each open what size a Seq file has.
	if file, ok := n.(*sysfs.File); ok && (time.Now().Before(f.doubt) || file.Attr().Size != nil) {
		k.good = 0
		if walk {
			k.asked++
		}
		return 0
	}
	k.good = time.Since(f.started) + f.entryTimeout + settles // it begins when the answer arrives
	if f.entryTimeout == 0 {
		k.good = 0
	}
	return f.entryTimeout
}

// disbelieve notes that the kernel will ask for the name of n.
func (f *fileSystem) disbelieve(n sysfs.Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.knowledge(n); k != nil {
		k.good = 0
	}
}

// opened takes an open for that of a client that asked for the name, and
// reports whether there was such a client.
//
// Preconditions: the file system's mu is held.
func (k *known) opened() bool {
	if k.asked == 0 {
		return false
	}
	k.asked--
	return true
}

// removed answers the open of a removed file.
func (f *fileSystem) removed(file *sysfs.File) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Since(f.started)
	good := func(n sysfs.Node) bool {
		k := f.knowledge(n)
		return k != nil && now < k.good
	}
	if k := f.knowledge(file); k != nil && k.opened() {
		return fuse.ENOENT
	}
	if !good(file) {
		return fuse.ENODEV
	}
	for dir := file.Parent(); dir.Parent() != nil; dir = dir.Parent() {
		if !good(dir) {
			f.knowledge(file).good = 0
		}
	}
	f.doubt = time.Now().Add(doubts)
	return fuse.Status(syscall.ESTALE)
}
