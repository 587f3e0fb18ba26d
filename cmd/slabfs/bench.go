package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"slabfs/internal/bench"
)

func newBenchCommand() *cobra.Command {
	names, whats := bench.Workloads()
	c := bench.Config{Worker: []string{"bench", "worker"}}
	var benchstat, check bool
	cmd := &cobra.Command{
		Use:   "bench [flags]",
		Short: "compare allocators side by side",
		Long: `slabfs bench runs the same loops on slabfs and on what it would replace, A B C A
B C, in several processes, and prints medians. It needs no mount and no root. Ctrl-C
prints what it has until then.

Workloads:
` + describe(names, whats) + `
Allocators: slabfs (restartable sequences), slabfs-lock (its lock engine), sync.Pool,
new (or make), and floor: two empty assembly calls, or the collection of an empty heap.`,
		Example: `  slabfs bench
  slabfs bench --workloads pair --processes 20 --duration 10ms
  slabfs bench --benchstat > out.txt; benchstat -col /alloc out.txt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if terminal(os.Stderr) {
				c.Progress = os.Stderr
			}
			if check {
				for _, name := range []string{"plain", "pair"} {
					if !slices.Contains(c.Workloads, name) {
						c.Workloads = append([]string{name}, c.Workloads...)
					}
				}
			}
			if err := c.Check(); err != nil {
				return err
			}
			ctx, cancel := untilSignal()
			defer cancel()
			report, err := bench.Run(ctx, c)
			if err != nil {
				return &statusError{statusCheck, err}
			}
			print := report.Table
			if benchstat {
				print = report.Benchstat
			}
			if err := print(cmd.OutOrStdout()); err != nil {
				return &statusError{statusCheck, fmt.Errorf("print the report: %w", err)}
			}
			if check {
				return agreement(report)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&c.Workloads, "workloads", names, "rows")
	f.StringSliceVar(&c.Allocators, "allocators", bench.Allocators(), "columns; the others are compared with the first")
	f.IntVar(&c.Rounds, "rounds", 10, "how often a process measures each cell")
	f.DurationVar(&c.Duration, "duration", 5*time.Millisecond, "how long a cell runs, about")
	f.IntVar(&c.Processes, "processes", 5, "how many processes, one after the other")
	f.IntVar(&c.Objects, "objects", 10_000_000, "how many are live in gc")
	f.BoolVar(&benchstat, "benchstat", false, "print text for benchstat")
	f.BoolVar(&check, "check", false, "end with status 5 if plain differs from pair by more than 10 %")
	cmd.AddCommand(&cobra.Command{
		Use:    "worker",
		Short:  "measure for the slabfs bench that started this process",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := untilSignal()
			defer cancel()
			return bench.Work(ctx, os.Stdin, os.Stdout)
		},
	})
	return cmd
}

// untilSignal returns a context that the first signal ends. The second ends the process.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	context.AfterFunc(ctx, cancel)
	return ctx, cancel
}

func describe(names, whats []string) string {
	var text strings.Builder
	for i, name := range names {
		fmt.Fprintf(&text, "  %-12s %s\n", name, whats[i])
	}
	return text.String()
}

// agreement is an error unless each pair agrees with its plain benchmark.
func agreement(r *bench.Report) error {
	var over []string
	for name, d := range r.Disagree() {
		text := fmt.Sprintf("%s by %+.0f %%", name, 100*d)
		if math.IsNaN(d) {
			text = name + " was never measured undisturbed"
		}
		over = append(over, text)
	}
	if len(over) == 0 {
		return nil
	}
	slices.Sort(over)
	return &statusError{statusCheck, fmt.Errorf("bench: plain differs from pair: %s; try more --rounds on an idle machine", strings.Join(over, ", "))}
}
