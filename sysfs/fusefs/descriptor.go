package fusefs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// go-fuse keeps the descriptor of its connection to itself. Here it is found
// and opened once more.

// fuseDevClone is FUSE_DEV_IOC_CLONE, Linux 4.2.
const fuseDevClone = 0x8004e500

// fuseDescriptors returns this process's descriptors of /dev/fuse.
func fuseDescriptors() (map[int]bool, error) {
	names, err := os.ReadDir("/proc/self/fd")
	fds := make(map[int]bool)
	for _, e := range names {
		target, linkErr := os.Readlink("/proc/self/fd/" + e.Name())
		if fd, err := strconv.Atoi(e.Name()); err == nil && linkErr == nil && target == "/dev/fuse" {
			fds[fd] = true
		}
	}
	return fds, err
}

// openConnection opens the connection of that number once more, or returns nil.
// before are the descriptors that were there before it was made: where the
// kernel does not tell whose connection a descriptor has, it must be the only
// new one.
func openConnection(minor int, before map[int]bool) *os.File {
	fds, err := fuseDescriptors()
	if err != nil {
		return nil
	}
	fresh := 0
	for fd := range fds {
		if !before[fd] {
			fresh++
		}
	}
	for first := range fds {
		fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil
		}
		only := !before[first] && fresh == 1
		if unix.IoctlSetPointerInt(fd, fuseDevClone, first) == nil && serves(fd, minor, only) {
			return os.NewFile(uintptr(fd), "/dev/fuse") // not earlier: the poller waits for the connection that it finds
		}
		_ = unix.Close(fd)
	}
	return nil
}

// silent makes fdinfo tell nothing; for tests.
var silent atomic.Bool

// connectionOf is how fdinfo names a descriptor's connection, if the kernel
// does.
const connectionOf = "\nfuse_connection:\t"

// serves reports whether a descriptor's connection has this number, and has not
// ended: if it has, the number may be that of a later one. Linux 6.12 and
// earlier do not tell; then only takes the place of an answer.
func serves(fd, minor int, only bool) bool {
	info, err := os.ReadFile(fmt.Sprint("/proc/self/fdinfo/", fd))
	if err != nil || ended(fd) {
		return false
	}
	if silent.Load() || !strings.Contains(string(info), connectionOf) {
		return only
	}
	return strings.Contains(string(info), fmt.Sprint(connectionOf, minor, "\n"))
}

// ended reports whether a descriptor's connection has. Unlike read(2) it takes
// no request.
func ended(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd)}}
	_, err := unix.Poll(poll, 0)
	return err != nil || poll[0].Revents&unix.POLLERR != 0
}
