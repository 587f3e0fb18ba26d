// Slabfs serves the caches of a slab allocator as files.
//
//	slabfs mount [flags] DIR      serve until SIGINT, SIGTERM or SIGHUP
//	slabfs umount [--lazy] DIR    unmount, which ends a server in the background
//	slabfs exec DIR COMMAND...    run a command with a mount in place of the kernel's files
//	slabfs bench [flags]          compare allocators side by side
//	slabfs stress [flags]         destroy caches under attribute writes and CPU hotplug
//	slabfs version
//	slabfs SPEC DIR -o OPTIONS    as mount(8) calls it: mount in the background
//
// Exit status:
//
//	0  success
//	1  the command line is wrong
//	2  the system refused something: to mount (also because a live slabfs is
//	   mounted there), to unmount, to open a file, to print; or SIGQUIT or
//	   SIGABRT arrived
//	3  a stale mount, whose server was killed, could not be cleaned
//	4  the connection was lost: somebody aborted it
//	5  a check found a violation, or could not conclude
//
// exec exits with the status of its command, with 126 if the command cannot be
// executed, and with 127 if it is not found.
//
// If somebody else unmounts, the server ends with status 0: this is how a
// server in the background is stopped. The status is also 0 if the mount was
// still in use at the end and had to be detached; a message says so.
//
// A message is one line on standard error. The output of a command goes to
// standard output.
package main
