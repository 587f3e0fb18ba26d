package stress

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// A proof is a counter that must not be zero.
type proof struct {
	what  string
	count uint64
	needs string // the kind of actor without which it may be zero
}

func (w *world) proofs() []proof {
	tree := w.srv.Tree().Stats()
	return []proof{
		{"stores in flight when a drain began", tree.StoresAtDrain, ""},
		{"drains that waited", tree.Waited, ""},
		{"creates refused for a dying name", w.a.RefusedDying(), ""},
		{"hotplug writers that waited", w.a.Hotplug().WritersWaited(), "hotplug"},
		{"allocations refused at the memory limit", w.atLimit.Load(), "hoard"},
	}
}

// report prints the table and returns the verdict.
func (w *world) report() error {
	w.clearLine()
	out := tabwriter.NewWriter(w.config.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "count\trefused\tslowest\t  operation\n")
	var ops uint64
	for k := range w.counts {
		n := &w.counts[k]
		ops += n.done.Load()
		if n.done.Load() > 0 {
			fmt.Fprintf(out, "%d\t%d\t%v\t  %s\n", n.done.Load(), n.refused.Load(), round(time.Duration(n.slowest.Load())), kindNames[k])
		}
	}
	fmt.Fprintln(out)
	var missing []string
	for _, p := range w.proofs() {
		fmt.Fprintf(out, "%d\t\t\t  %s\n", p.count, p.what)
		if p.count == 0 && (p.needs == "" || w.config.Actors[p.needs] > 0) {
			missing = append(missing, p.what)
		}
	}
	stats := w.srv.Stats()
	fmt.Fprintf(out, "%d\t\t\t  notifications, %d late, %d skipped\n", stats.Notified, stats.Late, stats.Skipped)
	out.Flush()

	w.mu.Lock()
	defer w.mu.Unlock()
	took := time.Since(w.began)
	fmt.Fprintf(w.config.Out, "\nseed %d, %v, %.0f operations a second, %d violations\n",
		w.config.Seed, round(took), float64(ops)/took.Seconds(), w.violations)
	for _, m := range w.messages {
		fmt.Fprintln(w.config.Err, "stress: violation:", m)
	}
	switch {
	case w.violations > 0:
		return fmt.Errorf("stress: %w; again: %s", ErrViolation, w.again())
	case len(missing) > 0:
		return fmt.Errorf("stress: %w: no %s; run longer, with a higher --duration", ErrInconclusive, strings.Join(missing, ", no "))
	}
	return nil
}

// again returns the command that repeats the run.
func (w *world) again() string {
	s := fmt.Sprintf("slabfs stress --seed %d --duration %v", w.config.Seed, w.config.Duration)
	if n := w.config.Actors.String(); n != "" {
		s += " --actors " + n
	}
	return s
}

// round leaves three digits or so.
func round(d time.Duration) time.Duration {
	unit := time.Microsecond
	for d > 1000*unit {
		unit *= 10
	}
	return d.Round(unit)
}
