package fusefs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"sync/atomic"

	"slabfs/sysfs"
	"slabfs/sysfs/fusefs"
)

// A program publishes an object of its own: a pool of workers whose size an
// operator can read and set from the shell.
func Example() {
	type pool struct{ workers atomic.Uint64 }

	attrs := []*sysfs.Attribute{
		{
			Name: "workers",
			Mode: 0o644,
			Show: func(_ context.Context, obj any, w *bytes.Buffer) error {
				_, err := fmt.Fprintln(w, obj.(*pool).workers.Load())
				return err
			},
			Store: func(_ context.Context, obj any, data []byte) error {
				n, err := sysfs.ParseUint(data, 16)
				if err == nil {
					obj.(*pool).workers.Store(n)
				}
				return err
			},
		},
	}

	images := &pool{}
	images.workers.Store(4)
	tree := sysfs.NewTree()
	kobj, err := tree.Root().Add("images", images, attrs...)
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(dir)
	server, err := fusefs.Mount(dir, tree, fusefs.Options{})
	if err != nil {
		fmt.Println(err) // says what to do: no /dev/fuse, no fusermount3, ...
		return
	}

	// Another process looks, never the one that serves.
	shell := exec.Command("sh", "-c", `
		cd "$1"/images
		cat workers
		echo 16 >workers
		echo junk >workers || echo refused
		ls -l workers | cut -c 1-10`, "sh", dir)
	shell.Stderr = io.Discard
	out, err := shell.Output()
	fmt.Print(string(out))
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println("the program sees", images.workers.Load())

	kobj.Remove() // no Show and no Store of it runs any more
	if err := server.Unmount(context.Background()); err != nil {
		log.Print(err)
	}

	// Output:
	// 4
	// refused
	// -rw-r--r--
	// the program sees 16
}
