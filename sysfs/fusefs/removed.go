package fusefs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"slabfs/sysfs"
)

// The kernel opens a removed file in one of three cases. The names that we have
// answered before tell which case it is. We remember nothing about clients,
// because to a server in another PID namespace all clients have the same
// number.
//
//	too late      The kernel asked for the file's name, and the removal came in between.
//	              For a moment there was no such name, so the answer is ENOENT. (ESTALE
//	              might be the second ESTALE of the client.)
//	from memory   The kernel used the file's name from its cache, perhaps long after the
//	              removal. ESTALE makes it walk the path again, once, and ask for each name.
//	without path  The client came by /proc/self/fd, or from within the directory, when the
//	              directory's name was gone. It gets one ESTALE, then ENODEV as in sysfs.
//
// While a client walks the path again, names of files are answered without a
// timeout. So the open that follows is not mistaken for one from memory.

// doubts is how long after an ESTALE the kernel must not keep names of files.
// The client that got the ESTALE walks the path again at once, unless the
// machine is very slow.
const doubts = 10 * time.Second

// believe returns how long the kernel may keep the name of n, and records it.
// walk says that a client is on its way to n. Unless it only looks, it opens n
// next.
func (f *fileSystem) believe(n sysfs.Node, walk bool) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.knowledge(n)
	if k == nil { // removed and forgotten in the meantime
		return 0
	}
	// The kernel must ask for the size of a Seq file again at each open.
	if file, ok := n.(*sysfs.File); ok && (time.Now().Before(f.doubt) || file.Attr().Size != nil) {
		k.good = 0
		if walk {
			k.asked++
		}
		return 0
	}
	// The kernel's time begins when the answer arrives.
	k.good = time.Since(f.started) + f.entryTimeout + settles
	if f.entryTimeout == 0 {
		k.good = 0
	}
	return f.entryTimeout
}

// disbelieve records that the kernel will ask for the name of n.
func (f *fileSystem) disbelieve(n sysfs.Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.knowledge(n); k != nil {
		k.good = 0
	}
}

// opened assigns an open to a client that asked for the name. It reports
// whether there was such a client.
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
