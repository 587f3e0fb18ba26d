// Command purego uses an allocator in a program without cgo that brings a C
// runtime all the same.
package main

import (
	"fmt"
	"os"

	"github.com/ebitengine/purego"

	"slabfs/internal/rseq/testdata/work"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "purego:", err)
		os.Exit(1)
	}
}

func run() error {
	libc, err := purego.Dlopen("libc.so.6", purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return err
	}
	var getpid func() int32
	purego.RegisterLibFunc(&getpid, libc, "getpid")
	answer, err := work.Run(func() error {
		if got, want := int(getpid()), os.Getpid(); got != want {
			return fmt.Errorf("getpid() = %d; want %d", got, want)
		}
		return nil
	})
	if err == nil {
		fmt.Println(answer)
	}
	return err
}
