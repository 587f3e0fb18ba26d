package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"slabfs/internal/lockdep"
)

// Exit statuses; doc.go tells what they mean.
const (
	statusUsage = 1
	statusMount = 2
	statusStale = 3
	statusLost  = 4
)

// A statusError ends the command with that exit status. Other errors are those
// of a wrong command line.
type statusError struct {
	status int
	err    error // nil: everything was said already
}

func (e *statusError) Error() string { return fmt.Sprint(e.err) }
func (e *statusError) Unwrap() error { return e.err }

func main() {
	c := newRootCommand()
	if calledByMount(os.Args) {
		c = newHelperCommand()
	}
	err := c.Execute()
	if n := lockdep.Violations(); n > 0 && err == nil {
		err = &statusError{statusCheck, fmt.Errorf("locks were taken in a wrong order in %d ways; the first was reported", n)}
	}
	if err == nil {
		return
	}
	status := statusUsage
	if s := (*statusError)(nil); errors.As(err, &s) {
		status, err = s.status, s.err
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "slabfs: %s\n", oneLine(err))
	}
	os.Exit(status)
}

func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

// newRootCommand returns the command with its subcommands, each made by one function.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "slabfs",
		Short: "a slab allocator whose caches are files",
		Long: `slabfs serves the caches of a slab allocator as files: cat shows what a cache
does, echo tunes it while it works, as in /sys/kernel/slab of Linux.`,
		Example: `  slabfs mount --load ./mnt
  cat ./mnt/sys/kernel/slab/kmalloc-64/slabs_cpu_partial
  echo 30 > ./mnt/sys/kernel/slab/kmalloc-64/cpu_partial`,
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true, // they take several lines
		CompletionOptions:  cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE: func(*cobra.Command, []string) error {
			return errors.New("no command given; try `slabfs mount --load ./mnt`, or `slabfs --help`")
		},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())
	})
	root.AddCommand(newMountCommand(), newUmountCommand(), newExecCommand(), newBenchCommand(), newStressCommand(), newVersionCommand())
	return root
}

// oneDir is what commands take that work on one mount point.
func oneDir(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%q takes one directory, not %d; see `%s --help`", c.CommandPath(), len(args), c.CommandPath())
	}
	return nil
}
