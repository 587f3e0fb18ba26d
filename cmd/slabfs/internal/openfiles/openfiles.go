package openfiles

import "syscall"

// Least is how many files the command opens at once, and a few more.
const Least = 16

func init() {
	var limit syscall.Rlimit
	// The soft limit does not matter: Go raises it.
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && limit.Max < Least {
		_, _ = syscall.Write(2, []byte("slabfs: too few files may be open (RLIMIT_NOFILE); allow 16 or more, as by `ulimit -n 1024`\n"))
		syscall.Exit(2)
	}
}
