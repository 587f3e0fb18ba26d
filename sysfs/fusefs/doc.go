// Package fusefs serves a sysfs tree over FUSE. No other package knows go-fuse.
//
//	Server     one mount of one tree
//	device     reads the kernel's requests; go-fuse's handlers answer them
//	inode      a directory that the kernel knows, with the files in it that it knows, and
//	           for each the number of lookups that it will forget (inodes.go)
//	openFile   one open description: its mutex and its snapshot of the content
//	notifier   one goroutine that tells the kernel of removals
//
// A `cat` of a file whose path is cached sends these requests:
//
//  1. OPEN checks the mode. As in sysfs, even root may not write a file without
//     w. A file that is opened for reading gets direct I/O and parallel writes;
//     a file opened only for writing needs neither.
//  2. READ runs Show and keeps the result, if its offset is 0 or not where the
//     last READ ended. Otherwise it reads from the kept result, so a reader of
//     small pieces sees one moment.
//  3. READ at the end answers 0 bytes.
//  4. RELEASE comes later. close does not wait for it.
//
// One WRITE is one Store. The offset has no meaning. Of more than
// sysfs.PageSize bytes, only the first sysfs.PageSize are taken and reported as
// written. We ask the kernel for as many pages in one WRITE as it allows,
// because each segment of a writev takes one. O_TRUNC and truncate succeed and
// change nothing.
//
// `ls -l` of a directory is OPENDIR, READDIRPLUS, which returns the attributes
// of all entries, and READDIR for the end. A listing's offsets are positions of
// names (sysfs.Node), so listings have no state.
//
// # Change
//
// The kernel keeps names and attributes for a second. Some attributes change
// without a request from the kernel, such as a directory's nlink when a
// directory is added to it. A notification then makes the kernel ask again. The
// notification takes no lock that a client can hold for long, so the goroutine
// that makes the change sends it and continues (Server.changed).
//
// # Removal
//
// Tree and kernel must not disagree for long. Once a kobject is out of the
// tree, lookups of it answer ENOENT. Opening a file that the kernel still
// remembers answers ESTALE, which makes the kernel look it up again
// (removed.go). So no answer depends on the notification. The notification only
// empties the kernel's cache before the entry timeout does, which is never more
// than a second.
//
// A notification takes the kernel's lock of the parent directory. A client can
// hold that lock as long as it likes, by a page fault inside getdents. So one
// goroutine sends one notification of the entry for each removal, and a remover
// waits for its own notification. When Remove returns, no client finds the
// name. The remover waits however long the queue is, as long as the kernel
// answers each notification within a second. A notification that takes longer
// is stuck. While one is stuck, no removal waits, and the name may be found
// until the entry timeout has passed. Stats counts these removals. Unmount
// waits for no notification.
//
// Removers wait only until the entry has expired. That takes the same time
// whether the kernel knows a hundred files of a directory or none. A
// millisecond later the same goroutine makes the kernel forget all of them,
// unless the name is taken again. In three cases both happen at once, and the
// remover waits for both:
//
//   - The kernel is older than Linux 6.2.
//   - The kernel does not tell which descriptor serves which mount.
//   - The kernel has asked for the name again within the last second. That
//     answer may still be on its way, and would make an expired entry valid
//     again.
//
// The kernel does not forget files that a client has open. Once closed they
// would stay in the kernel's cache, and their directories in our table, until
// memory is short. So a second later the goroutine looks for everything that is
// still known of removed directories, and makes the kernel take out each of
// these names, once. Unused ones go at once, and the others go with their last
// user. Nothing has to be tried again.
//
// # Mounts
//
// The package reads mountinfo to find out where mounts are (point.go). It never
// looks at a mount itself, because that would never end if the mount's server
// is stopped. A server knows its own mount by its numbers, and the directory
// that Mount made by an open descriptor. So renaming a parent does not hide
// them.
//
// # Locks
//
//	the inode's     held by the kernel; exclusively for writes to files opened only for writing
//	openFile.mu     of->mutex: one operation at a time on one open file; interruptible
//	a store slot    at most Options.MaxStores Stores of one mount run at once; interruptible
//	the file's active reference, taken by Show and Store
//	fileSystem.mu   a leaf: the tables of inodes and open files
//
// While we answer a write, the kernel holds the lock of the file's inode. While
// we answer a lookup or a listing, it holds the directory's lock. lockdep.go
// tells the checker.
//
// A goroutine that waits for a slot holds no active reference, so no drain
// waits for the queue.
//
// # Limits of FUSE
//
// The kernel answers some calls without asking us. Private mappings work. lseek
// and an empty write do not notice that the file is gone. An append starts at
// 4096. poll reports no changes. docs/abi/slab.md has the list, and a test in
// integration compares it with the kernel.
//
// Extended attributes are left out on purpose. With them the kernel would ask
// for security.capability at each truncation, and `ls -l` would ask for access
// lists.
package fusefs
