package lockdep

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// snapshot returns the classes in the order of their first use, and the edges
// from each.
func (k *checker) snapshot() ([]*Class, map[*Class][]edge) {
	after := make(map[*Class][]edge)
	k.mu.Lock()
	defer k.mu.Unlock()
	for c, edges := range k.graph.after {
		for _, e := range edges {
			after[c] = append(after[c], *e)
		}
	}
	return classes.list(), after
}

// WriteClasses writes the classes in the format of Linux's /proc/lockdep. For
// each class it writes the number of acquisitions, how the class was used, and
// the classes that were acquired directly under it. It also writes how many
// classes follow the class and lead to it, counting the class itself.
func WriteClasses(w io.Writer) error {
	k := checking.Load()
	if k == nil {
		return nil
	}
	all, after := k.snapshot()
	forward, backward := make(map[*Class][]*Class), make(map[*Class][]*Class)
	for c, edges := range after {
		for _, e := range edges {
			forward[c] = append(forward[c], e.to)
			backward[e.to] = append(backward[e.to], c)
		}
	}
	b := &printer{w: w}
	b.printf("all lock classes:\n")
	for _, c := range all {
		b.printf("%p OPS:%8d FD:%5d BD:%5d %s: %s\n", c, c.ops.Load(), reach(forward, c), reach(backward, c), c.usageChars(), c.full())
		for _, to := range forward[c] {
			b.printf(" -> [%p] %s\n", to, to.full())
		}
		b.printf("\n")
	}
	return b.err
}

// WriteChains writes each order of classes that were held together, in the
// format of Linux's /proc/lockdep_chains.
func WriteChains(w io.Writer) error {
	k := checking.Load()
	if k == nil {
		return nil
	}
	k.mu.Lock()
	list := slices.Clone(k.chains.list)
	k.mu.Unlock()
	all := classes.list()
	b := &printer{w: w}
	b.printf("all lock chains:\n")
	for _, chain := range list {
		b.printf("irq_context: 0\n")
		for _, n := range chain {
			b.printf("[%p] %s\n", all[n-1], all[n-1].full())
		}
		b.printf("\n")
	}
	return b.err
}

// WriteStats writes the numbers of Linux's /proc/lockdep_stats that exist here,
// and the number of violations.
func WriteStats(w io.Writer) error {
	k := checking.Load()
	if k == nil {
		return nil
	}
	classes.mu.Lock()
	used, refused := len(classes.all), classes.refused
	classes.mu.Unlock()
	var hits, misses uint64
	depth := 0
	for i := range k.shards {
		s := &k.shards[i]
		s.mu.Lock()
		hits, misses, depth = hits+s.hits, misses+s.misses, max(depth, s.depth)
		s.mu.Unlock()
	}
	k.mu.Lock()
	edges, searches, longest, chains, links := k.graph.edges, k.graph.searches, k.graph.longest, len(k.chains.list), 0
	for _, c := range k.chains.list {
		links += len(c)
	}
	k.mu.Unlock()
	b := &printer{w: w}
	b.printf(" lock-classes:                  %11d [max: %d]\n", used, maxClasses)
	b.printf(" lock-classes refused:          %11d\n", refused)
	b.printf(" direct dependencies:           %11d\n", edges)
	b.printf(" dependency chains:             %11d [max: %d]\n", chains, maxChains)
	b.printf(" dependency chain hlocks used:  %11d\n", links)
	b.printf(" chain lookup misses:           %11d\n", misses)
	b.printf(" chain lookup hits:             %11d\n", hits)
	b.printf(" cyclic checks:                 %11d\n", searches)
	b.printf(" max locking depth:             %11d\n", depth)
	b.printf(" max bfs queue depth:           %11d\n", longest)
	b.printf(" violations:                    %11d\n", k.violations.Load())
	b.printf(" debug_locks:                   %11d\n", 1)
	return b.err
}

// WriteDOT writes the graph for graphviz: a box for each class, and an arrow to
// each class that was acquired under it. An arrow is dashed if only shared
// acquisitions made it, and red if it closed a circle. Classes with the same
// arrows share a box, because otherwise the attributes of a cache would fill
// the page.
func WriteDOT(w io.Writer) error {
	k := checking.Load()
	if k == nil {
		return nil
	}
	_, after := k.snapshot()
	arrows := make(map[string][]string) // of each class, in and out
	for _, edges := range after {
		for _, e := range edges {
			style := e.style()
			arrows[e.from.full()] = append(arrows[e.from.full()], "to "+e.to.full()+style)
			arrows[e.to.full()] = append(arrows[e.to.full()], "from "+e.from.full()+style)
		}
	}
	boxes := make(map[string][]string) // by arrows
	box := make(map[string]string)     // of each class: the first in its box
	for _, name := range slices.Sorted(maps.Keys(arrows)) {
		slices.Sort(arrows[name])
		key := strings.Join(arrows[name], "\n")
		boxes[key] = append(boxes[key], name)
		box[name] = boxes[key][0]
	}
	lines := make(map[string]bool)
	for _, names := range boxes {
		label := names
		switch n := len(names); {
		case n == 1:
			lines[fmt.Sprintf("\t%q;\n", names[0])] = true
			continue
		case n > 4:
			label = append(slices.Clone(names[:3]), fmt.Sprintf("and %d more", n-3))
		}
		lines[fmt.Sprintf("\t%q [label=%q];\n", names[0], strings.Join(label, "\n"))] = true
	}
	for _, edges := range after {
		for _, e := range edges {
			lines[fmt.Sprintf("\t%q -> %q%s;\n", box[e.from.full()], box[e.to.full()], e.style())] = true
		}
	}
	b := &printer{w: w}
	b.printf("digraph lockdep {\n\tnode [shape=box, fontname=\"monospace\", fontsize=10];\n")
	for _, l := range slices.Sorted(maps.Keys(lines)) {
		b.printf("%s", l)
	}
	b.printf("}\n")
	return b.err
}

func (e *edge) style() string {
	switch {
	case e.bad != 0:
		return " [color=red]"
	case e.kinds&(kindEN|kindER) == 0:
		return " [style=dashed]"
	}
	return ""
}

// A printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
