// Slabfs serves the caches of a slab allocator as files.
//
//	slabfs mount [flags] DIR      serve until SIGINT, SIGTERM or SIGHUP
//	slabfs umount [--lazy] DIR    end a server in the background
//	slabfs exec DIR COMMAND...    run a command that takes a mount for the kernel's files
//	slabfs bench [flags]          compare allocators side by side
//	slabfs stress [flags]         destroy against attribute writes against hotplug
//	slabfs version
//	slabfs SPEC DIR -o OPTIONS    as mount(8) calls it: mount in the background
//
// Exit status:
//
//	0  all is well
//	1  the command line is wrong
//	2  the system refused something: to mount, also because a live slabfs is
//	   mounted there, to unmount, to open a file, to print; SIGQUIT or SIGABRT came
//	3  a stale mount, whose server was killed, could not be cleaned
//	4  the connection was lost: somebody aborted it
//	5  a check found a violation, or could not conclude
//
// exec has the status of its command, 126 if that cannot be executed, 127 if it
// is not found.
//
// An umount by somebody else is an orderly end, with status 0: it is how a
// server in the background is ended. So is a mount that was busy at the end and
// had to be detached; a line says so.
//
// Messages are one line on standard error; what a command was asked for goes to
// standard output.
package main
