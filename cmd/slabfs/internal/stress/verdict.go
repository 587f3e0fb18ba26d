package stress

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// findings compares the world's reports with the rules.
func (j *judge) findings() []finding {
	list := slices.Clone(j.found)
	if j.order != "" || j.state.Counters[wrongOrder] > 0 {
		list = append(list, finding{what: "locks were taken in an order that can deadlock", count: max(1, j.state.Counters[wrongOrder]), why: explainOrder(j.order), op: ops})
	}
	for c := range counters {
		r, n := &counterRules[c], j.state.Counters[c]
		if r.must == beZero && n > 0 && c != wrongOrder {
			list = append(list, finding{what: j.withExamples(r.name, count{op: ops, counter: c}), count: n, why: r.why[:], op: ops})
		}
	}
	for o := range ops {
		r := &opRules[o]
		for how, n := range j.state.Ops[o].Outcomes {
			if n > 0 && !slices.Contains(r.may, outcome(how)) {
				list = append(list, finding{what: j.wrongOutcome(o, outcome(how)), count: n, why: r.explanation(), op: o})
			}
		}
	}
	for _, l := range j.left {
		list = append(list, l.findings()...)
	}
	return list
}

func (j *judge) withExamples(what string, k count) string {
	if e := j.examples[k]; len(e) > 0 {
		return what + ", such as: " + strings.Join(e, "; ")
	}
	return what
}

func (j *judge) wrongOutcome(o op, how outcome) string {
	var want []string
	for _, m := range opRules[o].may {
		want = append(want, outcomeNames[m])
	}
	text := outcomeNames[how]
	if e := j.examples[count{op: o, outcome: how}]; len(e) > 0 {
		text = strings.Join(e, "; ")
	}
	if how == done {
		text = strings.ReplaceAll(text, "<nil>", outcomeNames[done])
	}
	return fmt.Sprintf("%s %s; want %s", opRules[o].name, text, strings.Join(want, ", or "))
}

// findings reports what should not be left.
func (l *left) findings() (list []finding) {
	for name, n := range l.Objects {
		list = append(list, finding{what: fmt.Sprintf("cache %q: %d objects are live after all were freed", name, n), count: uint64(n), why: lostWhy[:], op: ops})
	}
	if l.Closed && l.Memory != 0 {
		list = append(list, finding{what: fmt.Sprintf("%d bytes are in use by a closed allocator", l.Memory), count: 1, why: lostWhy[:], op: ops})
	}
	for _, t := range []struct {
		who   string
		shows []string
	}{{"mount", l.Files}, {"second tree", l.Second}} {
		if !slices.Equal(t.shows, l.Caches) {
			list = append(list, finding{what: fmt.Sprintf("the %s shows the caches %q; the allocator has %q", t.who, t.shows, l.Caches), count: 1, why: showsWhy[:], op: ops})
		}
	}
	return list
}

// maxFindings bounds how many findings are described.
const maxFindings = 10

// report prints the table and the findings, and completes the verdict.
func (j *judge) report() {
	j.clearLine()
	found := j.findings()
	wrong := make(map[op]uint64)
	for _, f := range found {
		j.verdict.Violations += int(f.count)
		wrong[f.op] += f.count
	}
	t := tabwriter.NewWriter(j.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "count\trefused\tslowest\tviolations\t  operation\n")
	var refused uint64
	for o := range ops {
		s := &j.state.Ops[o]
		n := s.count()
		if n == 0 && wrong[o] == 0 {
			continue
		}
		refused += n - s.Outcomes[done]
		fmt.Fprintf(t, "%d\t%d\t%v\t%d\t  %s\n", n, n-s.Outcomes[done], round(time.Duration(s.Slowest)), wrong[o], opRules[o].name)
	}
	fmt.Fprintln(t)
	for c := range counters {
		r, n := &counterRules[c], j.state.Counters[c]
		if r.must == beZero && n == 0 {
			continue
		}
		fmt.Fprintf(t, "%d\t\t\t\t  %s\n", n, r.name)
		if r.must == prove && n == 0 && (r.needs == "" || j.config.Actors[r.needs] > 0) {
			j.verdict.Missing = append(j.verdict.Missing, r.name)
		}
	}
	t.Flush()

	took, all := time.Since(j.began), j.state.count()
	low, mid, high := quartiles(j.rate)
	fmt.Fprintf(j.out, "\nseed %d, %v, %.0f operations a second, %d violations\n", j.config.Seed, round(took), float64(all)/took.Seconds(), j.verdict.Violations)
	if len(j.rate) > 0 {
		fmt.Fprintf(j.out, "throughput: %.0f operations in the median second, quartiles %.0f and %.0f; %.0f %% were not refused\n",
			mid, low, high, 100*float64(all-refused)/float64(max(all, 1)))
	}
	j.note()
	for i, f := range found {
		if i == maxFindings {
			fmt.Fprintf(j.err, "stress: and %d more\n", len(found)-i)
			break
		}
		if !f.told {
			j.describe(f)
		}
	}
	if j.order != "" {
		fmt.Fprint(j.err, "\n", j.order)
	}
}

// describe prints a finding.
func (j *judge) describe(f finding) {
	fmt.Fprintf(j.err, "stress: violation: %s (%d times)\n", f.what, f.count)
	for _, line := range f.why {
		fmt.Fprintf(j.err, "  %s\n", line)
	}
}

// note reports a mount that others keep. For instance, a container that was
// started during the run has a copy of it, or a shell has its working directory
// there. That is no fault of the allocator.
func (j *judge) note() {
	if j.state.Ops[opEnd].Outcomes[detached] == 0 {
		return
	}
	for _, e := range j.examples[count{op: opEnd, outcome: detached}] {
		fmt.Fprintf(j.err, "stress: no violation: %s; it has no server any more\n", e)
	}
}

// quartiles returns the quarters of a list.
func quartiles(list []float64) (low, mid, high float64) {
	if len(list) == 0 {
		return 0, 0, 0
	}
	s := slices.Sorted(slices.Values(list))
	return s[len(s)/4], s[len(s)/2], s[len(s)*3/4]
}

// progress shows one line, which the next line overwrites.
func (j *judge) progress() {
	if !j.config.Progress || time.Since(j.shown) < time.Second/4 {
		return
	}
	j.shown = time.Now()
	fmt.Fprintf(j.err, "\r\x1b[Kstress: %.1f s, %d operations, %d violations", time.Since(j.began).Seconds(), j.state.count(), len(j.findings()))
}

func (j *judge) clearLine() {
	if j.config.Progress {
		fmt.Fprint(j.err, "\r\x1b[K")
	}
}

// round keeps about three digits.
func round(d time.Duration) time.Duration {
	unit := time.Microsecond
	for d > 1000*unit {
		unit *= 10
	}
	return d.Round(unit)
}
