package bench

import (
	"encoding/json"
	"io"
	"math"
	"time"
)

// A document is a report as JSON. docs/benchmarks.md describes it.
type document struct {
	Machine   Machine          `json:"machine"`
	Time      time.Time        `json:"time"`
	Settings  settings         `json:"settings"`
	FloorNs   *float64         `json:"floor_ns"` // F, or null if not measured
	Discarded int              `json:"discarded_samples"`
	Figures   []documentFigure `json:"figures"`
	Samples   []documentSample `json:"samples"`
	Notes     []string         `json:"notes"`
}

type settings struct {
	Workloads  []string `json:"workloads"`
	Allocators []string `json:"allocators"`
	Sizes      []int    `json:"sizes"`
	Batches    []int    `json:"batches"`
	Goroutines int      `json:"goroutines"`
	Rounds     int      `json:"rounds"`
	Processes  int      `json:"processes"`
	Objects    int      `json:"objects"`
	DurationNs int64    `json:"duration_ns"`
}

type documentFigure struct {
	Workload string         `json:"workload"`
	Axis     string         `json:"axis,omitempty"`
	At       int            `json:"at,omitempty"`
	Unit     string         `json:"unit"`
	More     bool           `json:"more_is_better"`
	Cells    []documentCell `json:"cells"` // of allocators that have samples
}

type documentCell struct {
	Allocator string   `json:"allocator"`
	Samples   int      `json:"samples"`
	Median    float64  `json:"median"`
	Low       float64  `json:"low_quartile"`
	High      float64  `json:"high_quartile"`
	Worst     float64  `json:"worst_process"`
	Ratio     *float64 `json:"ratio"` // to the first allocator; null if that has no sample, or 0
}

type documentSample struct {
	Row       string    `json:"row"`
	Allocator string    `json:"allocator"`
	Process   int       `json:"process"`
	Round     int       `json:"round"`
	N         int       `json:"operations"`
	Values    []float64 `json:"values"` // in the order of the row's figures
	FloorNs   []float64 `json:"floor_ns,omitempty"`
}

// JSON writes the report for programs: the figures of the table, and all
// samples, including discarded ones.
func (r *Report) JSON(out io.Writer) error {
	calm := r.calm()
	d := document{
		Machine: r.Machine, Time: r.Time, FloorNs: number(median(floors(calm))), Discarded: len(r.Samples) - len(calm),
		Settings: settings{r.Workloads, r.Allocators, r.Sizes, r.Batches, r.Goroutines, r.Rounds, r.Processes, r.Objects, int64(r.Duration)},
		Figures:  []documentFigure{}, Samples: []documentSample{}, Notes: append([]string{}, r.remarks()...),
	}
	for _, f := range r.figures() {
		doc := documentFigure{Workload: f.workload.name, Unit: f.unit.name, More: f.unit.more, Cells: []documentCell{}}
		if f.axis != nil {
			doc.Axis, doc.At = f.axis.name, f.at
		}
		for j, s := range f.sums {
			if s.n > 0 {
				doc.Cells = append(doc.Cells, documentCell{r.Allocators[j], s.n, s.median, s.low, s.high, s.worst, number(s.ratio)})
			}
		}
		d.Figures = append(d.Figures, doc)
	}
	for _, s := range r.Samples {
		doc := documentSample{s.Row, s.Allocator, s.Process, s.Round, s.N, s.Values, nil}
		if s.Floor[0] > 0 {
			doc.FloorNs = s.Floor[:]
		}
		d.Samples = append(d.Samples, doc)
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(d)
}

// number returns v, or nil if JSON has no such number.
func number(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
