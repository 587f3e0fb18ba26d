package bench

import (
	"math"
	"slices"
)

// quantile returns the q-quantile of the values, interpolated, or NaN if there
// are none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low == len(sorted)-1 {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// spread returns half the distance between the quartiles, as a fraction of the
// median.
func spread(values []float64) float64 {
	return (quantile(values, 0.75) - quantile(values, 0.25)) / 2 / median(values)
}

// fewest is how many samples a process must have to count. If no process has as
// many, all count.
const fewest = 3

// A summary is what the table says about a cell in one unit.
type summary struct {
	n      int     // samples; 0: no figure
	lost   bool    // no figure, because all samples were discarded
	median float64 // of the processes' medians
	spread float64 // of all samples
	low    float64 // lower quartile of all samples
	high   float64 // upper quartile
	ratio  float64 // to the first column: median over the blocks that have both

	ratioSpread float64 // spread of the ratios
	worst       float64 // the worst of the processes' medians
}

// summarize summarizes the i-th unit of a row on an allocator, from samples,
// with the ratio to another allocator.
func summarize(samples []Sample, w row, i int, allocator, against string) summary {
	unit := w.units[i]
	type block struct{ process, round int }
	base := make(map[block]float64)
	for _, s := range samples {
		if s.Row == w.name() && s.Allocator == against {
			base[block{s.Process, s.Round}] = s.Values[i]
		}
	}
	var all, ratios []float64
	processes := make(map[int][]float64)
	for _, s := range samples {
		if s.Row != w.name() || s.Allocator != allocator {
			continue
		}
		v := s.Values[i]
		all = append(all, v)
		processes[s.Process] = append(processes[s.Process], v)
		if b := base[block{s.Process, s.Round}]; b > 0 {
			ratios = append(ratios, v/b)
		}
	}
	var medians, few []float64
	for _, values := range processes {
		if few = append(few, median(values)); len(values) >= fewest {
			medians = append(medians, median(values))
		}
	}
	if len(medians) == 0 {
		medians = few
	}
	sum := summary{n: len(all), median: median(medians), spread: spread(all), low: quantile(all, 0.25), high: quantile(all, 0.75), ratio: median(ratios), ratioSpread: spread(ratios)}
	switch {
	case len(medians) == 0:
	case unit.more:
		sum.worst = slices.Min(medians)
	default:
		sum.worst = slices.Max(medians)
	}
	return sum
}

// A figure is a row of the report and one of its units, with a summary for each allocator.
type figure struct {
	row
	unit unit
	sums []summary
}

// label returns the figure's name for people.
func (f figure) label() string { return f.row.label(f.unit) }

// summary summarizes a row's i-th unit on an allocator from calm samples, with
// the ratio to another allocator.
func (r *Report) summary(calm []Sample, w row, i int, allocator, against string) summary {
	s := summarize(calm, w, i, allocator, against)
	s.lost = s.n == 0 && slices.ContainsFunc(r.Samples, func(s Sample) bool { return s.Row == w.name() && s.Allocator == allocator })
	return s
}

// figures returns all figures, from calm samples.
func (r *Report) figures() []figure {
	samples := r.calm()
	var all []figure
	for _, w := range r.rows() {
		for i, u := range w.units {
			f := figure{row: w, unit: u}
			for _, name := range r.Allocators {
				f.sums = append(f.sums, r.summary(samples, w, i, name, r.Allocators[0]))
			}
			all = append(all, f)
		}
	}
	return all
}
