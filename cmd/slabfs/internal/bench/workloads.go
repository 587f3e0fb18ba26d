package bench

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"slabfs/alloc"
)

// A workload is a row of the table for each value of its axis, and for each of its units.
// Each has a file, which says what it is and who defined it.
type workload struct {
	name  string
	what  string // what it does, for people
	units []unit // of the figures that a cell's measure returns
	usual bool   // measured unless others are asked for
	phase phase
	axis  *axis // nil: one row

	shared bool                           // several goroutines use one allocator
	slices bool                           // of any size
	loops  bool                           // its loops are those of the heap
	open   func(e *env) (*cell, error)    // nil: not on this allocator
	floor  func(c *Config) (*cell, error) // nil: there is none
}

// A phase says when a process measures a workload, and how often.
type phase uint8

const (
	light phase = iota // milliseconds
	long               // tenths of a second
	first              // once in a process, before all else
	heavy              // seconds and much memory: in the first process only, after all else
)

// phases in the order in which a process goes through them.
var phases = []phase{first, light, long, heavy}

// A plan is how often cells are measured.
type plan struct {
	rounds   int  // wanted
	patience int  // how many times as many are tried, for as many calm ones
	once     bool // no warming, and no F around what lasts too long for it to vouch for
}

func (p phase) plan(rounds int) plan {
	switch p {
	case first:
		return plan{rounds: 1, patience: 1, once: true}
	case light:
		return plan{rounds: rounds, patience: 3}
	case long:
		return plan{rounds: rounds, patience: 2}
	}
	return plan{rounds: min(rounds, 3), patience: 1, once: true}
}

// An axis is a number that makes a row of its own.
type axis struct {
	name   string // as benchstat shows it
	what   string // the number, for people
	values func(*Config) []int
}

var (
	bySize  = &axis{"size", "objects of that many bytes", func(c *Config) []int { return c.Sizes }}
	byBatch = &axis{"batch", "that many objects by one call", func(c *Config) []int { return c.Batches }}
)

// A row is a workload and a place on its axis.
type row struct {
	*workload
	at int
}

// name returns the row's name in samples: deep/64.
func (r row) name() string {
	if r.axis == nil {
		return r.workload.name
	}
	return r.workload.name + "/" + strconv.Itoa(r.at)
}

// label returns the row's name for people, with that of a unit.
func (r row) label(u unit) string {
	return strings.ReplaceAll(r.name(), "/", " ") + u.row
}

// rows returns what the config asks for, in order.
func (c *Config) rows() []row {
	var rows []row
	for _, w := range allWorkloads {
		if !slices.Contains(c.Workloads, w.name) {
			continue
		}
		if w.axis == nil {
			rows = append(rows, row{w, 0})
			continue
		}
		for _, at := range w.axis.values(c) {
			rows = append(rows, row{w, at})
		}
	}
	return rows
}

// A unit is what a figure counts.
type unit struct {
	name string // as benchstat knows it
	row  string // behind the workload's name in the table
	more bool   // more is better
}

var (
	nsPerOp = unit{name: "ns/op"}
	scaling = unit{name: "scaling", row: " scaling", more: true}
)

// time reports whether the figure is one in nanoseconds.
func (u unit) time() bool { return strings.HasSuffix(u.name, "ns") || strings.HasPrefix(u.name, "ns/") }

var allWorkloads = []*workload{
	pair, plain, parallel, typed, bytesPair,
	deepInOrder, deepReverse, deepShuffled, bulk,
	slabTest, slabTestAll, slabTestRemote,
	xmalloc, larson, cacheThrash, cacheScratch, retune,
	grow, growCold, giveBack, freer, mstress, gc, gcPointers,
}

// Workloads returns the names of all workloads, what they do, and the names of those
// that are measured unless others are asked for.
func Workloads() (names, whats, usual []string) {
	for _, w := range allWorkloads {
		names, whats = append(names, w.name), append(whats, w.what)
		if w.usual {
			usual = append(usual, w.name)
		}
	}
	return names, whats, usual
}

// Select returns the workloads or allocators, out of names, that patterns ask for: names, "all", or
// patterns of path.Match. Each is there once.
func Select(kind string, names, patterns []string) ([]string, error) {
	var list []string
	for _, p := range patterns {
		found := false
		for _, name := range names {
			ok, err := path.Match(p, name)
			if err != nil {
				return nil, fmt.Errorf("bench: bad pattern %q of %ss: %w", p, kind, err)
			}
			if ok || p == "all" {
				found = true
				if !slices.Contains(list, name) {
					list = append(list, name)
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("bench: unknown %s %q; want all, or some of %s", kind, p, strings.Join(names, ", "))
		}
	}
	return list, nil
}

// A cell is a row on an allocator.
type cell struct {
	row       row
	allocator string

	measure func(d time.Duration) ([]float64, error) // for about d, or as long as the workload needs; one figure for each unit
	n       int                                      // operations that measure does

	prepare func() error // not measured, before each block; nil: nothing to do
	clean   func() error // behind it, also behind a prepare that failed
	destroy func() error // at the end
}

// An env is what a workload opens a cell with.
type env struct {
	*Config
	row    row
	column *column
	alloc  *alloc.Allocator // of slabfs's columns
	bed    *bed
}

// heap opens objects of one size.
func (e *env) heap(size int) (heap, error) { return e.column.heap(e.alloc, e.cacheName(), size) }

func (e *env) bytes() bytesHeap { return e.column.bytes(e.alloc) }

func (e *env) cacheName() string { return "bench-" + strings.ReplaceAll(e.row.name(), "/", "-") }

// A bed is where cells lie: an allocator for each engine.
type bed struct {
	engines map[string]*alloc.Allocator
	cells   []*cell
	notes   []string
}

// newBed makes the allocators that are asked for. Where there is no rseq engine
// its column is left out, unless nothing else was asked for, and a note says why.
func newBed(c *Config) (*bed, error) {
	b := &bed{engines: make(map[string]*alloc.Allocator)}
	for _, name := range slices.Clone(c.Allocators) {
		engine := columnOf(name).engine
		if engine == alloc.Auto {
			continue
		}
		a, err := alloc.New(alloc.Options{Engine: engine})
		switch {
		case err == nil:
			b.engines[name] = a
		case engine == alloc.RSeq && len(c.Allocators) > 1:
			b.note("no column %q: %v", name, err)
			c.Allocators = slices.DeleteFunc(slices.Clone(c.Allocators), func(n string) bool { return n == name })
		default:
			return nil, errors.Join(err, b.close())
		}
	}
	return b, nil
}

// note adds a line to the report, once.
func (b *bed) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(b.notes, text) {
		b.notes = append(b.notes, text)
	}
}

// cellsOf makes the cells of a row, those of allocators that it is not for left out.
func (b *bed) cellsOf(r row, c *Config) ([]*cell, error) {
	var cells []*cell
	for _, name := range c.Allocators {
		var made *cell
		var err error
		switch col := columnOf(name); {
		case name == floorName && r.floor == nil, name != floorName && !col.serves(r.workload):
		case name == floorName:
			made, err = r.floor(c)
		case col.native[r.workload.name] != nil:
			made = nativeCell(col.native[r.workload.name](c.Goroutines))
		default:
			made, err = r.open(&env{c, r, col, b.engines[name], b})
		}
		if err != nil {
			return nil, fmt.Errorf("%s on %s: %w", r.name(), name, err)
		}
		if made != nil {
			made.row, made.allocator = r, name
			cells = append(cells, made)
		}
	}
	b.cells = append(b.cells, cells...)
	return cells, nil
}

// clear destroys the cells, so that those of another phase have the process to themselves. The error
// tells of objects that a workload has not freed.
func (b *bed) clear() error {
	var errs []error
	for _, c := range b.cells {
		if c.destroy != nil {
			errs = append(errs, c.destroy())
		}
	}
	b.cells = nil
	return errors.Join(errs...)
}

// close gives everything back.
func (b *bed) close() error {
	errs := []error{b.clear()}
	for _, a := range b.engines {
		errs = append(errs, a.Close())
	}
	return errors.Join(errs...)
}
