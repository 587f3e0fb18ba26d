// Package fusefs serves a sysfs tree over FUSE. It is the only package that
// knows go-fuse.
//
//	Server     one mount of one tree
//	device     where the kernel's requests are read, and answered by go-fuse's handlers
//	inode      a directory that the kernel knows, with the files in it that it knows, and
//	           for each the number of lookups it will forget (inodes.go)
//	openFile   one open description: its mutex and its snapshot of the content
//	notifier   one goroutine that tells the kernel of removals
//
// One `cat` of a file whose path is cached:
//
//  1. OPEN checks the mode (even root may not write a file without w, as in
//     sysfs) and answers: direct I/O, parallel writes. What is only written needs neither.
//  2. READ runs Show and keeps the result, at offset 0 and wherever it does not
//     go on where the last one ended. Who goes on reads what was kept: a reader of
//     small pieces sees one moment.
//  3. READ at the end answers 0 bytes.
//  4. RELEASE comes later; close does not wait for it.
//
// One WRITE is one Store: its offset has no meaning, and of more than
// sysfs.PageSize bytes only those are taken and reported as written. The kernel is asked
// for as many pages in one WRITE as it allows, since each segment of a writev takes one. O_TRUNC and
// truncate succeed and change nothing.
//
// `ls -l` of a directory is OPENDIR, READDIRPLUS, which brings the attributes of
// all entries, and READDIR for the end. A listing's offsets are positions of names
// (sysfs.Node), so no listing has state.
//
// # Change
//
// The kernel keeps attributes for a second, as it keeps names. When those of a node
// change otherwise than by the kernel itself, as nlink of a directory does with each
// directory in it, a notification has the kernel ask again. It takes no lock that a
// client can hold for long, so whoever makes the change sends it and goes on
// (Server.changed).
//
// # Removal
//
// Tree and kernel must not disagree for long. Once a kobject is out of the tree,
// lookups of it answer ENOENT, and opening what the kernel still remembers
// answers ESTALE, which makes it look up again (removed.go). So no answer depends on
// the notification; it only empties the kernel's cache before the entry timeout
// does, which is never more than a second.
//
// To notify is to take the kernel's lock of the parent directory, which a client
// can hold for as long as it likes (by a page fault inside getdents). So one
// goroutine sends one notification of the entry for each removal, and a remover waits
// for its own: when Remove returns, no client finds the name. It waits however long the
// queue is, as long as the kernel answers each within a second. While one takes longer,
// it is stuck, and no removal waits: then the name may be found for as long as the entry
// timeout says. Stats counts these. Unmount waits for none.
//
// What removers wait for only lets the entry expire, which takes as long for a directory
// of which the kernel knows a hundred files as for one of which it knows none. A
// millisecond later the same goroutine makes the kernel forget all of that, unless the
// name is taken again. Kernels before Linux 6.2, and those that do not tell which
// descriptor serves which mount, do both at once, and the remover waits for both; and so
// do all if the kernel has asked again for the name within the last second, since that
// answer may still be on its way and would make an expired entry good again.
//
// Files that a client has open are spared by that, and once closed they would stay in the
// kernel's cache, and with their directories in our table, until memory is short. So a
// second later the goroutine looks for what is still known of removed directories and has
// the kernel take each such name out, once: what nobody uses goes then, the rest with its
// last user, and nothing has to be tried again.
//
// # Mounts
//
// Where mounts are is read from mountinfo (point.go): a look at a mount whose server is
// stopped would never end. A server knows its own mount by its numbers, and the directory
// that Mount made by an open descriptor, so that a rename of a parent does not hide them.
//
// # Locks
//
//	the inode's   held by the kernel; exclusively for writes to what was opened for writing only
//	openFile.mu   of->mutex: one operation at a time on one open file; waited for interruptibly
//	a store slot  at most Options.MaxStores Stores of one mount run at once; waited for interruptibly
//	the active reference of the file, taken by Show and Store
//	fileSystem.mu a leaf: the tables of inodes and open files
//
// The kernel holds the lock of a file's inode while we answer a write, and that of a
// directory's while we answer a lookup or a listing; lockdep.go tells the checker.
//
// Whoever waits for a slot holds no active reference, so that no drain waits for
// the queue.
//
// # Limits of FUSE
//
// The kernel answers some calls without asking: private mappings work, lseek
// and an empty write do not learn that the file is gone, an append starts at 4096,
// poll reports no changes. docs/abi/slab.md has the list; a test in integration
// holds it against the kernel.
//
// Extended attributes are left out on purpose: with them the kernel asks for
// security.capability at each truncation, and `ls -l` for access lists.
package fusefs
