// Package integration has only tests. They see slabfs as a user does: the real
// command serves a mount, and other processes read and write its files.
//
//	command   the built binary, in the foreground or in the background (command_test.go)
//	client    a child process that performs system calls (internal/testclient)
//	role      what the test binary is when it is run again: a program with an
//	          allocator of its own, a client that measures, one that keeps a CPU busy
//
// kernel_test.go does the same to /sys/kernel/slab of the running kernel as to a
// mount: it reads, and it tries what must fail.
//
// Programs of others are clients as well: those that read /proc/slabinfo or
// /sys/kernel/slab (clients_test.go), and mount(8), which runs the command
// (helper_test.go).
//
// What a shell says about an error differs; its number does not, so tests compare that.
//
// Tests of plain users want /dev/fuse open to all, as distributions have it.
// Where it is not, they run again in a mount namespace in which it is.
package integration
