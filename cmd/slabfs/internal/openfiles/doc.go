// Package openfiles ends the command where too few files may be open.
//
// go-fuse makes a pipe when it is initialized, and Go's runtime an epoll
// instance soon after; both panic if they cannot. So the check has to come
// before. Go initializes a package as soon as what it imports is initialized,
// in the order of import paths: this one comes right after syscall, which it
// alone imports, and before time, without which there is no os.
package openfiles
