package slabattr_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"

	"slabfs/alloc"
	"slabfs/sysfs/fusefs"
	"slabfs/sysfs/slabattr"
)

// A session lies outside the Go heap, so it must not hold Go pointers.
type session struct{ id, hits uint64 }

// A service shows its allocator as files until somebody unmounts them.
func Example() {
	a, err := alloc.New(alloc.Options{MemoryLimit: 256 << 20})
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := alloc.NewTyped[session](a, "session", alloc.CacheOptions{})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(dir)

	srv, err := slabattr.Mount(dir+"/mnt", a, fusefs.Options{}) // makes the directory
	if err != nil {
		fmt.Println(err) // says what to do: no /dev/fuse, no fusermount3, ...
		return
	}
	srv.UnmountOnSignal() // Ctrl-C leaves no dead mount

	s := sessions.Alloc() // zeroed; nil if the memory limit is reached
	s.id, s.hits = 7, 1

	// An operator in another process, never in the one that serves.
	operator := exec.Command("sh", "-c", `
		cut -d ' ' -f 1 mnt/sys/kernel/slab/session/objects
		cat mnt/sys/kernel/slab/session/object_size
		umount mnt || fusermount3 -u mnt`)
	operator.Dir, operator.Stdout, operator.Stderr = dir, os.Stdout, os.Stderr
	if err := operator.Run(); err != nil {
		fmt.Println(err)
	}

	<-srv.Done() // a service waits here
	fmt.Println(errors.Is(srv.Err(), fusefs.ErrUnmounted))
	sessions.Free(s)
	if err := a.Close(); err != nil {
		log.Print(err)
	}

	// Output:
	// 1
	// 16
	// true
}
