package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"slabfs/internal/fault"
	"slabfs/internal/lockdep"
	"slabfs/internal/stress"
	"slabfs/sysfs/fusefs"
)

const statusCheck = 5

func newStressCommand() *cobra.Command {
	c := stress.Config{Actors: stress.DefaultActors(), Client: []string{"stress", "client"}, Out: os.Stdout, Err: os.Stderr}
	hotplug, check, inject := true, false, ""
	cmd := &cobra.Command{
		Use:   "stress [flags]",
		Short: "destroy caches under attribute writes and a writer of the hotplug lock",
		Long: `slabfs stress mounts an allocator on a temporary directory and lets many actors,
some of them in other processes, create, destroy, tune, read and use its caches.
It ends with status 5 when an object is lost or handed out twice, a released cache
is used, an operation fails as it should not or does not end; and also when the
actors did not meet as they must for the run to prove something.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("seed") {
				c.Seed = rand.Uint64()
			}
			if check {
				lockdep.Enable()
			}
			if inject != "" {
				if err := fault.Inject(inject); err != nil {
					return err
				}
				fmt.Fprintf(os.Stderr, "injected: %s\n%s", inject, fault.Explain(inject))
			}
			if !hotplug {
				c.Actors["hotplug"] = 0
			}
			if terminal(os.Stderr) {
				c.Progress = os.Stderr
			}
			return runStress(c)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&c.Duration, "duration", 10*time.Second, "how long")
	f.DurationVar(&c.Deadline, "deadline", 10*time.Second, "an operation that takes longer is taken for a deadlock")
	f.Uint64Var(&c.Seed, "seed", 0, "what the actors choose (default random; it is printed)")
	f.Var(c.Actors, "actors", "how many actors of a kind, such as store=8,hoard=0")
	f.BoolVar(&hotplug, "hotplug", true, "take and drop the hotplug lock for writing all the time")
	f.BoolVar(&check, "lockdep", false, "check the order of locks too")
	f.StringVar(&inject, "inject", "", "make a mistake on purpose")
	f.StringVar(&c.Dir, "dir", "", "mount there, not on a temporary directory")
	cmd.AddCommand(&cobra.Command{
		Use:    "client",
		Short:  "work for the slabfs stress that started this process",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return stress.Serve(os.Stdin, os.Stdout) },
	})
	return cmd
}

// runStress runs until the time is over or a signal comes. A second signal ends
// it without waiting for anybody.
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
	err := stress.Run(ctx, c)
	switch {
	case errors.Is(err, stress.ErrViolation), errors.Is(err, stress.ErrInconclusive):
		return &statusError{statusCheck, err}
	case errors.Is(err, fusefs.ErrStale):
		return &statusError{statusStale, err}
	case err != nil:
		return &statusError{statusMount, err}
	}
	return nil
}

func terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
