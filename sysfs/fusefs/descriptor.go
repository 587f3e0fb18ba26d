package fusefs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// go-fuse does not export the descriptor of its connection. This file finds it
// and opens the connection once more.

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

// openConnection opens the connection with that number once more. It returns
// nil if it cannot. before are the descriptors of /dev/fuse from before the
// connection was made. If the kernel does not tell a descriptor's connection,
// the connection's descriptor must be the only new one.
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
			// Not earlier: NewFile registers the connection with
			// the poller.
			return os.NewFile(uintptr(fd), "/dev/fuse")
		}
		_ = unix.Close(fd)
	}
	return nil
}

// silent makes serves ignore fdinfo. It is for tests.
var silent atomic.Bool

// connectionOf is the field of fdinfo with the number of a descriptor's
// connection. Not every kernel has it.
const connectionOf = "\nfuse_connection:\t"

// serves reports whether a descriptor's connection has this number and has not
// ended. (After the end, a later connection may get the number.) Linux 6.12 and
// earlier do not tell the number; serves then returns only.
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

// ended reports whether a descriptor's connection has ended. Unlike read(2) it
// takes no request.
func ended(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd)}}
	_, err := unix.Poll(poll, 0)
	return err != nil || poll[0].Revents&unix.POLLERR != 0
}
