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

// A workload is a row of the table for each value of its axis and each of its
// units. Each workload has a file, which says what it is and who defined it.
type workload struct {
	name  string
	what  string // what it does, for people
	units []unit // one for each figure that a cell's measure returns
	usual bool   // measured by default
	phase phase
	axis  *axis // nil: one row

	shared bool                           // several goroutines use one allocator
	slices bool                           // uses slices of any size
	loops  bool                           // runs in loops of the heap
	open   func(e *env) (*cell, error)    // a nil cell: not on this allocator
	floor  func(c *Config) (*cell, error) // nil: no floor
}

// A phase says when a process measures a workload, and how often.
type phase uint8

const (
	light phase = iota // milliseconds
	long               // tenths of a second
	first              // once in a process, before all other phases
	heavy              // seconds and much memory: in the first process only, after all other phases
)

// phases in the order of a process.
var phases = []phase{first, light, long, heavy}

// A plan says how often cells are measured.
type plan struct {
	rounds   int  // calm samples to aim for
	patience int  // how many times as many rounds are tried at most
	once     bool // no warming, and no F, which vouches only for short samples
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

// An axis is a number with a row for each of its values.
type axis struct {
	name   string // as benchstat shows it
	what   string // the number, for people
	values func(*Config) []int
}

var (
	bySize  = &axis{"size", "objects of that many bytes", func(c *Config) []int { return c.Sizes }}
	byBatch = &axis{"batch", "that many objects by one call", func(c *Config) []int { return c.Batches }}
)

// A row is a workload at one value of its axis.
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

// label returns the name of the row in a unit, for people.
func (r row) label(u unit) string {
	return strings.ReplaceAll(r.name(), "/", " ") + u.row
}

// rows returns the rows that the config asks for, in order.
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

// A unit is the unit of a figure.
type unit struct {
	name string // as benchstat knows it
	row  string // follows the workload's name in the table
	more bool   // more is better
}

var (
	nsPerOp = unit{name: "ns/op"}
	scaling = unit{name: "scaling", row: " scaling", more: true}
)

// time reports whether the unit is nanoseconds.
func (u unit) time() bool { return strings.HasSuffix(u.name, "ns") || strings.HasPrefix(u.name, "ns/") }

var allWorkloads = []*workload{
	pair, plain, parallel, typed, bytesPair,
	deepInOrder, deepReverse, deepShuffled, bulk,
	slabTest, slabTestAll, slabTestRemote,
	xmalloc, larson, cacheThrash, cacheScratch, retune,
	grow, growCold, giveBack, freer, mstress, gc, gcPointers,
}

// Workloads returns the names of all workloads, what they do, and the names of
// the default ones.
func Workloads() (names, whats, usual []string) {
	for _, w := range allWorkloads {
		names, whats = append(names, w.name), append(whats, w.what)
		if w.usual {
			usual = append(usual, w.name)
		}
	}
	return names, whats, usual
}

// Select returns the workloads or allocators among names that match the
// patterns: names, "all", or patterns of path.Match. Each result appears once.
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

	measure func(d time.Duration) ([]float64, error) // runs for about d, or as long as the workload needs; returns one figure for each unit
	n       int                                      // operations that measure did

	prepare func() error // before each block, not measured; may be nil
	clean   func() error // after each block, also if prepare failed
	destroy func() error // at the end
}

// An env is what a workload opens a cell with.
type env struct {
	*Config
	row    row
	column *column
	alloc  *alloc.Allocator // only for slabfs's columns
	bed    *bed
}

// heap opens objects of one size.
func (e *env) heap(size int) (heap, error) { return e.column.heap(e.alloc, e.cacheName(), size) }

func (e *env) bytes() bytesHeap { return e.column.bytes(e.alloc) }

func (e *env) cacheName() string { return "bench-" + strings.ReplaceAll(e.row.name(), "/", "-") }

// A bed holds the cells, and an allocator for each engine.
type bed struct {
	engines map[string]*alloc.Allocator
	cells   []*cell
	notes   []string
}

// newBed makes the allocators that the config asks for. If the system has no
// rseq engine, its column is left out and a note says why; if it is the only
// column, newBed fails.
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

// cellsOf makes the cells of a row, for the allocators that can run it.
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

// clear destroys the cells, so that another phase has the process to itself.
// The error reports objects that a workload has not freed.
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

// close destroys the cells and closes the allocators.
func (b *bed) close() error {
	errs := []error{b.clear()}
	for _, a := range b.engines {
		errs = append(errs, a.Close())
	}
	return errors.Join(errs...)
}
