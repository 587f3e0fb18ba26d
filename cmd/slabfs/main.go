package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	_ "slabfs/cmd/slabfs/internal/openfiles" // before go-fuse, which would panic
	"slabfs/internal/lockdep"
)

// Exit statuses; doc.go says what they mean.
const (
	statusUsage = 1
	statusMount = 2 // also for anything else that the system refuses
	statusStale = 3
	statusLost  = 4
)

// A statusError ends the command with its exit status. Any other error means
// that the command line is wrong.
type statusError struct {
	status int
	err    error // nil: the message was printed already
}

func (e *statusError) Error() string { return fmt.Sprint(e.err) }
func (e *statusError) Unwrap() error { return e.err }

func main() {
	c := newRootCommand()
	if calledByMount(os.Args) {
		c = newHelperCommand()
	}
	out := &watchedOutput{to: os.Stdout}
	c.SetOut(out)
	err := c.Execute()
	if out.err != nil && !errors.As(err, new(*statusError)) {
		err = &statusError{statusMount, fmt.Errorf("print: %w", out.err)}
	}
	if n := lockdep.Violations(); n > 0 && err == nil {
		err = &statusError{statusCheck, fmt.Errorf("locks were taken in the wrong order in %d ways; the first was reported", n)}
	}
	if err == nil {
		return
	}
	status := statusUsage
	if s := (*statusError)(nil); errors.As(err, &s) {
		status, err = s.status, s.err
	}
	if err != nil {
		complain("%s", oneLine(err))
	}
	os.Exit(status)
}

// A watchedOutput remembers that a write failed, because not every function
// that prints checks for errors.
type watchedOutput struct {
	to  io.Writer
	err error
}

func (o *watchedOutput) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	if err != nil {
		o.err = err
	}
	return n, err
}

func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

// newRootCommand returns the command with its subcommands.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "slabfs",
		Short: "a slab allocator whose caches are files",
		Long: `slabfs serves the caches of a slab allocator as files, as Linux does in
/sys/kernel/slab: cat shows what a cache does, and echo tunes it while it works.`,
		Example: `  slabfs mount --load ./mnt
  cat ./mnt/sys/kernel/slab/kmalloc-64/slabs_cpu_partial
  echo 30 > ./mnt/sys/kernel/slab/kmalloc-64/cpu_partial`,
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true, // they take several lines
		CompletionOptions:  cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE: func(c *cobra.Command, _ []string) error {
			if version, _ := c.Flags().GetBool("version"); version {
				return printVersion(c)
			}
			return errors.New("no command given; try `slabfs mount --load ./mnt`, or see `slabfs --help`")
		},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())
	})
	// The flag is not cobra's own, whose template would link text/template,
	// 2.5 MB.
	root.Flags().BoolP("version", "v", false, "print the version, as slabfs version does")
	root.SetHelpCommand(newHelpCommand())
	root.AddCommand(newMountCommand(), newUmountCommand(), newExecCommand(), newBenchCommand(), newStressCommand(), newVersionCommand())
	return root
}

func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "print the help text of a command",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return fmt.Errorf("help: unknown command %q; see `slabfs --help`", strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// oneDir checks that the argument is one directory.
func oneDir(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%q takes one directory, not %d; see `%s --help`", c.CommandPath(), len(args), c.CommandPath())
	}
	return nil
}

// complain prints a line on standard error. It gives up after a second, because
// a pipe that nobody reads must not keep the command from ending.
func complain(format string, args ...any) {
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		fmt.Fprintf(os.Stderr, "slabfs: "+format+"\n", args...)
	}()
	select {
	case <-printed:
	case <-time.After(time.Second):
	}
}
