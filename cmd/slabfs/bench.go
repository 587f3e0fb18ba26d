package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"slabfs/cmd/slabfs/internal/bench"
)

// A benchCommand holds the flags of slabfs bench.
type benchCommand struct {
	c         bench.Config
	peers     string // a program that brings more columns
	benchstat bool
	check     bool
	files     [4]string // names of the output files
}

func newBenchCommand() *cobra.Command {
	b := &benchCommand{c: bench.Config{Worker: []string{"bench", "worker"}}}
	workloads, whats, usual := bench.Workloads()
	allocators, arewhats := bench.Allocators()
	cmd := &cobra.Command{
		Use:   "bench [flags]",
		Short: "compare allocators side by side",
		Long: `slabfs bench runs the same loops on slabfs and on the allocators it would replace,
interleaved, in several processes, and prints medians. It needs no mount and no root.
Without flags it takes five to ten minutes, most of them for xmalloc, larson and gc;
--workloads pair takes a few seconds. Ctrl-C prints the results so far.

Workloads (* marks the defaults):
` + describe(workloads, whats, usual) + `
Allocators:
` + describe(allocators, arewhats, nil) + `
Names may be patterns, or "all". docs/benchmarks.md says where each workload comes from.`,
		Example: `  slabfs bench
  slabfs bench --workloads pair --processes 20 --duration 10ms
  slabfs bench --workloads 'deep*,slabtest' --sizes 8,64,512,4096 --allocators slabfs,sync.Pool,new
  slabfs bench --workloads bulk --batches 1,2,4,8,16,32,64,128,250
  slabfs bench --workloads retune --rounds 40
  slabfs bench --workloads all --html report.html --json report.json
  GOWORK=off go -C cmd/slabfs/cpeers build -o /tmp/cpeers . && slabfs bench --peers /tmp/cpeers --workloads 'pair,deep*'
  slabfs bench --benchstat > out.txt; benchstat -col /alloc out.txt`,
		Args: cobra.NoArgs,
		RunE: b.run,
	}
	b.flags(cmd.Flags(), usual, allocators)
	cmd.AddCommand(&cobra.Command{
		Use:    "worker",
		Short:  "measure on behalf of the slabfs bench that started this process",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := untilSignal()
			defer cancel()
			return bench.Work(ctx, os.Stdin, os.Stdout)
		},
	}, newGuardCommand(b.c.Worker))
	return cmd
}

// flags defines the flags, with these workloads and allocators as defaults.
func (b *benchCommand) flags(f *pflag.FlagSet, workloads, allocators []string) {
	f.StringSliceVar(&b.c.Workloads, "workloads", workloads, "workloads to run: the rows of the table")
	f.StringSliceVar(&b.c.Allocators, "allocators", allocators, "allocators to run: the columns of the table; the others are compared with the first")
	f.StringVar(&b.peers, "peers", "", "a `program` that brings more allocators and measures in place of this one, such as cmd/slabfs/cpeers")
	b.c.Sizes = []int{64}
	f.Var(&byteSizes{list: &b.c.Sizes}, "sizes", "object sizes in bytes, for workloads with a row for each size: powers of two from 8 to 16384")
	f.IntSliceVar(&b.c.Batches, "batches", []int{32}, "how many objects bulk allocates in one call")
	f.IntVar(&b.c.Goroutines, "goroutines", max(runtime.GOMAXPROCS(0), 2), "how many goroutines work at once, in workloads with several")
	f.IntVar(&b.c.Rounds, "rounds", 10, "how often each process measures each cell")
	b.c.Duration = 5 * time.Millisecond
	f.Var((*duration)(&b.c.Duration), "duration", "about how long a cell runs; 10 times as long if its goroutines come and go or wait for each other")
	f.IntVar(&b.c.Processes, "processes", 5, "how many processes to run, one after the other")
	f.IntVar(&b.c.Objects, "objects", 10_000_000, "how many objects are live in gc")
	f.BoolVar(&b.benchstat, "benchstat", false, "print text for benchstat instead of the table")
	f.BoolVar(&b.check, "check", false, "exit with status 5 if plain differs from pair by more than 10 %")
	f.StringVar(&b.files[0], "json", "", "write figures and samples as JSON to a `file`; - prints them instead of the table")
	f.StringVar(&b.files[1], "svg", "", "write plots to a `file`; - prints them instead of the table")
	f.StringVar(&b.files[3], "markdown", "", "write ratios as a Markdown table to a `file`, in place of the table it holds; - prints them instead of the table")
	f.StringVar(&b.files[2], "html", "", "write a page with plots and the table to a `file`; - prints it instead of the table")
}

// run measures and writes every output.
func (b *benchCommand) run(cmd *cobra.Command, _ []string) error {
	if terminal(os.Stderr) {
		b.c.Progress = os.Stderr
	}
	if err := b.choose(cmd.Flags().Changed("allocators")); err != nil {
		return err
	}
	if err := b.c.Check(); err != nil {
		return err
	}
	outputs, err := outputsOf(b.files, b.benchstat)
	if err != nil {
		return err
	}
	ctx, cancel := untilSignal()
	defer cancel()
	report, err := bench.Run(ctx, b.c)
	if err != nil {
		return &statusError{statusCheck, err}
	}
	for _, o := range outputs {
		if err := o.write(report, cmd.OutOrStdout()); err != nil {
			return &statusError{statusMount, fmt.Errorf("bench: %w", err)}
		}
	}
	if b.check {
		return agreement(report)
	}
	return nil
}

// choose turns patterns into names of workloads and allocators. chosen reports
// whether the user named the allocators; if not, the allocators of the peers
// are added.
func (b *benchCommand) choose(chosen bool) error {
	c := &b.c
	workloads, _, _ := bench.Workloads()
	allocators, _ := bench.Allocators()
	if b.peers != "" {
		more, err := bench.PeersOf(b.peers)
		if err != nil {
			return err
		}
		bench.Register(more...)
		c.Program = b.peers
		for _, p := range more {
			allocators = append(allocators, p.Name)
			if !chosen {
				c.Allocators = append(c.Allocators, p.Name)
			}
		}
	}
	var err1, err2 error
	c.Workloads, err1 = bench.Select("workload", workloads, c.Workloads)
	c.Allocators, err2 = bench.Select("allocator", allocators, c.Allocators)
	if b.check {
		for _, name := range []string{"plain", "pair"} {
			if !slices.Contains(c.Workloads, name) {
				c.Workloads = append([]string{name}, c.Workloads...)
			}
		}
		if !slices.Contains(c.Sizes, 64) { // plain measures this size
			c.Sizes = append(c.Sizes, 64)
		}
	}
	return errors.Join(err1, err2)
}

// newGuardCommand returns a hidden command. .ci/run checks with it that no fast
// path became slower.
func newGuardCommand(worker []string) *cobra.Command {
	g := bench.Guard{Worker: worker}
	cmd := &cobra.Command{
		Use:    "guard",
		Short:  "exit with status 5 if a fast path is slower than it was",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if g.Processes < 1 {
				return fmt.Errorf("bench: guard: %d processes; want 1 or more", g.Processes)
			}
			ctx, cancel := untilSignal()
			defer cancel()
			if err := g.Run(ctx, cmd.OutOrStdout()); err != nil {
				return &statusError{statusCheck, err}
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&g.Processes, "processes", 12, "how many processes to try at most")
	cmd.Flags().BoolVar(&g.Record, "record", false, "print a new cmd/slabfs/internal/bench/baseline.json with the medians of the processes")
	return cmd
}

// An output is a form of the report and its destination.
type output struct {
	format func(*bench.Report, io.Writer) error
	file   string // "-": standard output of the command
	holds  bool   // the file may hold other text: only the table in it is replaced
}

// outputsOf returns the outputs that the flags ask for. It opens every file, so
// that a file that cannot be written is reported before minutes are spent. The
// files keep their content until then.
func outputsOf(files [4]string, benchstat bool) ([]output, error) {
	var list []output
	printed := 0
	for i, format := range []func(*bench.Report, io.Writer) error{(*bench.Report).JSON, (*bench.Report).SVG, (*bench.Report).HTML, (*bench.Report).Markdown} {
		switch files[i] {
		case "":
			continue
		case "-":
			printed++
		default:
			if i == 3 {
				if _, err := replaceTable(files[i], ""); err != nil {
					return nil, fmt.Errorf("bench: %w", err)
				}
			}
			f, err := os.OpenFile(files[i], os.O_WRONLY|os.O_CREATE, 0o666)
			if err == nil {
				err = f.Close()
			}
			if err != nil {
				return nil, &statusError{statusMount, fmt.Errorf("bench: %w", err)}
			}
		}
		list = append(list, output{format, files[i], i == 3})
	}
	if benchstat {
		printed++
		list = append(list, output{(*bench.Report).Benchstat, "-", false})
	}
	switch printed {
	case 0:
		list = append(list, output{(*bench.Report).Table, "-", false})
	case 1:
	default:
		return nil, errors.New("bench: only one of --benchstat and the outputs named - can be printed")
	}
	return list, nil
}

func (o output) write(r *bench.Report, stdout io.Writer) error {
	if o.file == "-" {
		if err := o.format(r, stdout); err != nil {
			return fmt.Errorf("print the report: %w", err)
		}
		return nil
	}
	var text strings.Builder
	if err := o.format(r, &text); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	all := text.String()
	if o.holds {
		var err error
		if all, err = replaceTable(o.file, all); err != nil {
			return err
		}
	}
	return os.WriteFile(o.file, []byte(all), 0o666)
}

// replaceTable returns a file's text with its table replaced. For an empty or
// missing file it returns only the table.
func replaceTable(file, table string) (string, error) {
	old, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(old) == 0 {
		return table, nil
	}
	if err != nil {
		return "", err
	}
	all, err := bench.ReplaceTable(string(old), table)
	if err != nil {
		return "", fmt.Errorf("replace the table in %q: %w", file, err)
	}
	return all, nil
}

// untilSignal returns a context that the first signal cancels. The second
// signal ends the process.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	context.AfterFunc(ctx, cancel)
	return ctx, cancel
}

func describe(names, whats, starred []string) string {
	var text strings.Builder
	for i, name := range names {
		star := " "
		if slices.Contains(starred, name) {
			star = "*"
		}
		fmt.Fprintf(&text, "  %s%-16s %s\n", star, name, bench.Wrap(whats[i], 20, bench.Width))
	}
	return text.String()
}

// agreement returns an error unless pair agrees with plain on every allocator.
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
