// Package openfiles ends the command if the process may open too few files.
//
// go-fuse makes a pipe when it is initialized, and soon after Go's runtime
// makes an epoll instance. Both panic if they cannot, so the check has to run
// before them.
//
// Go initializes packages in the order of their import paths, each one as soon
// as its imports are initialized. This package imports only syscall, so it is
// initialized right after syscall and before time, which os needs.
package openfiles
