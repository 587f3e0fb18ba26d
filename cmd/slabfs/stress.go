package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"slabfs/cmd/slabfs/internal/stress"
	"slabfs/internal/fault"
	"slabfs/sysfs/fusefs"
)

const statusCheck = 5

func newStressCommand() *cobra.Command {
	c := stress.Config{Actors: stress.DefaultActors(), Command: []string{"stress"}, Out: os.Stdout, Err: os.Stderr}
	hotplug := true
	cmd := &cobra.Command{
		Use:     "stress [flags]",
		Short:   "destroy caches under attribute writes and CPU hotplug",
		Long:    stressHelp(),
		Example: stressExamples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.Inject != "" && !slices.Contains(fault.Names(), c.Inject) {
				return fmt.Errorf("--inject %q: want one of %s", c.Inject, strings.Join(fault.Names(), " "))
			}
			if !cmd.Flags().Changed("seed") {
				c.Seed = rand.Uint64()
			}
			if !hotplug {
				c.Actors["hotplug"], c.Actors["cpus"] = 0, 0
			}
			c.Progress = terminal(os.Stderr)
			return runStress(c)
		},
	}
	f := cmd.Flags()
	c.Duration, c.Deadline = 10*time.Second, 10*time.Second
	f.Var((*duration)(&c.Duration), "duration", "how long to run")
	f.Var((*duration)(&c.Deadline), "deadline", "an operation that takes longer counts as a deadlock")
	f.Var((*seed)(&c.Seed), "seed", "seed of the actors' choices (default random; it is printed)")
	f.Var(c.Actors, "actors", "how many actors of a kind, such as store=8,hoard=0; see above")
	f.BoolVar(&hotplug, "hotplug", true, "run actors that write the hotplug lock all the time; false means --actors cpus=0,hotplug=0")
	f.BoolVar(&c.Lockdep, "lockdep", false, "also check the order of locks")
	f.StringVar(&c.Inject, "inject", "", "make a mistake on purpose; see above")
	f.StringVar(&c.Dir, "dir", "", "mount on this directory instead of a temporary one")
	for _, role := range []string{"client", "world", "judge"} {
		cmd.AddCommand(&cobra.Command{
			Use:    role,
			Short:  "play a part for the slabfs stress that started this process",
			Hidden: true,
			RunE: func(_ *cobra.Command, args []string) error {
				return playStress(append([]string{role}, args...))
			},
		})
	}
	return cmd
}

func stressHelp() string {
	return `slabfs stress mounts an allocator on a temporary directory and lets many actors,
some of them in other processes, create, destroy, tune, read and use its caches,
while CPUs come and go. Another process judges what the actors report; it knows
nothing of --inject. The run ends with status 5 when an object is lost or
allocated twice, a released cache is used, a cache is released before it is unlinked,
the files or the name of a cache outlive its destroy, or an operation does not end or
fails in a way that it should not. A run is inconclusive, which is also status 5, when
the actors did not meet in all the ways it must test. Each finding is explained in a
few lines. In a deadlock, the stacks of all goroutines go to a file, which is named.

Kinds of actors, how many of each, and what they do. Most fight for the names of four
caches, s0 to s3:

` + stress.Kinds() + `
Mistakes for --inject, each of which must be found:

  ` + strings.Join(fault.Names(), "\n  ") + `

A signal ends the run early and prints the table; a second one ends it at once.

Exit status: 0 no violation; 1 usage; 2 mounting failed; 3 a stale mount could not be
cleaned; 5 a violation, or inconclusive.`
}

const stressExamples = `  slabfs stress
  slabfs stress --duration 1h --lockdep
  slabfs stress --seed 7 --actors store=8,hoard=0
  slabfs stress --inject unlink-under-locks
  slabfs stress --inject unlink-under-locks --hotplug=false --lockdep`

// playStress plays a part in a run. The judge reports what lockdep finds in it.
func playStress(args []string) error {
	if err := stress.Serve(args); err != nil {
		return stressError(err)
	}
	return &statusError{status: 0}
}

// runStress runs until the time is over or a signal arrives. A second signal
// ends it without waiting for any process.
func runStress(c stress.Config) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	now := make(chan struct{})
	c.Now = now
	go func() {
		<-signals
		cancel()
		<-signals
		close(now)
	}()
	fmt.Printf("slabfs stress --seed %d\n", c.Seed)
	if c.Inject != "" {
		fmt.Fprintf(c.Err, "injected: %s\n%s", c.Inject, fault.Explain(c.Inject))
	}
	if err := stress.Run(ctx, c); err != nil {
		return stressError(err)
	}
	return nil
}

// stressError returns err with the exit status that it stands for.
func stressError(err error) error {
	var start *stress.StartError
	switch {
	case errors.Is(err, stress.ErrViolation), errors.Is(err, stress.ErrInconclusive):
		return &statusError{statusCheck, err}
	case errors.As(err, &start):
		return &statusError{status: start.Status} // the world has printed why
	case errors.Is(err, fusefs.ErrStale):
		return &statusError{statusStale, err}
	}
	return &statusError{statusMount, err}
}

func terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
