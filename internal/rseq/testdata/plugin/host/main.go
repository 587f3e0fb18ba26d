// Command host uses an allocator, loads the plugin that it is given, lets that
// one do the same, and then use a cache of the host.
package main

import (
	"fmt"
	"os"
	"plugin"

	"slabfs/alloc"
	"slabfs/internal/rseq/testdata/work"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	p, err := plugin.Open(path)
	if err != nil {
		return err
	}
	guest, err := p.Lookup("Run")
	if err != nil {
		return err
	}
	use, err := p.Lookup("Use")
	if err != nil {
		return err
	}
	for _, f := range []func() (string, error){
		func() (string, error) { return work.Run(nil) },
		guest.(func() (string, error)),
		func() (string, error) { return work.Share(nil, use.(func(*alloc.Cache, int))) },
	} {
		answer, err := f()
		if err != nil {
			return err
		}
		fmt.Println(answer)
	}
	return nil
}
