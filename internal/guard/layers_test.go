package guard

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A layer is a package and the packages of ours that its files may import.
// Tests may import more.
type layer struct {
	pkg string
	may []string
}

// layers has the packages from the top down. Imports run down only.
// docs/design.md shows the same list.
var layers = []layer{
	{"cmd/slabfs", []string{"cmd/slabfs/internal/bench", "cmd/slabfs/internal/stress", "cmd/slabfs/internal/load", "cmd/slabfs/internal/openfiles", "sysfs/slabattr", "sysfs/fusefs", "sysfs", "alloc", "internal/asynclog", "internal/lockdep", "internal/fault", "internal/invariants"}},
	{"cmd/slabfs/internal/bench", []string{"sysfs/slabattr", "sysfs/fusefs", "alloc", "internal/lockdep"}},
	{"cmd/slabfs/internal/stress", []string{"sysfs/slabattr", "sysfs/fusefs", "alloc", "internal/lockdep", "internal/fault"}},
	{"cmd/slabfs/internal/load", []string{"sysfs", "alloc", "internal/cpu", "internal/lockdep"}},
	{"cmd/slabfs/internal/openfiles", nil},
	{"integration", nil},
	{"sysfs/slabattr", []string{"sysfs/fusefs", "sysfs", "alloc", "internal/cpu", "internal/lockdep", "internal/fault"}},
	{"sysfs/fusefs", []string{"sysfs", "internal/asynclog", "internal/lockdep", "internal/fault"}},
	{"sysfs", []string{"internal/lockdep", "internal/fault"}},
	{"alloc", []string{"alloc/rcu", "workqueue", "internal/percpu", "internal/rseq", "internal/pages", "internal/cpu", "internal/lockdep", "internal/fault", "internal/invariants"}},
	{"alloc/rcu", []string{"workqueue", "internal/percpu", "internal/rseq", "internal/cpu", "internal/lockdep", "internal/fault", "internal/invariants"}},
	{"workqueue", []string{"internal/lockdep", "internal/invariants"}},
	{"internal/percpu", []string{"internal/rseq", "internal/pages", "internal/cpu", "internal/lockdep"}},
	{"internal/seqtest", []string{"internal/rseq"}},
	{"internal/rseq", []string{"internal/cpu", "internal/lockdep"}},
	{"internal/pages", []string{"internal/cpu", "internal/lockdep"}},
	{"internal/cpu", []string{"internal/lockdep"}},
	{"internal/testclient", []string{"internal/lockdep"}},
	{"internal/lockdep", []string{"internal/invariants"}},
	{"internal/asynclog", nil},
	{"internal/leaktest", nil},
	{"internal/proctest", nil},
	{"internal/fault", nil},
	{"internal/invariants", nil},
	{"internal/guard", nil},
	{"docs/model", nil},
	{"docs/picture", nil},
}

// TestArrows checks each import against the layers.
func TestArrows(t *testing.T) {
	may := map[string][]string{}
	for i, l := range layers {
		may[l.pkg] = l.may
		for _, of := range l.may {
			if !slices.ContainsFunc(layers[i+1:], func(below layer) bool { return below.pkg == of }) {
				t.Errorf("layers lets %s import %s, which does not stand below it", l.pkg, of)
			}
		}
	}
	imported := map[string][]string{}
	for _, f := range goFiles(t) {
		if _, ok := may[f.pkg]; !ok {
			t.Errorf("%s: package %s has no place in layers", f.path, f.pkg)
			may[f.pkg] = nil
		}
		for _, s := range f.Imports {
			p := importPath(t, s)
			if of, ok := strings.CutPrefix(p, module+"/"); ok && !f.test {
				imported[f.pkg] = append(imported[f.pkg], of)
				if !slices.Contains(may[f.pkg], of) {
					t.Errorf("%s: %s may not import %s", f.at(s), f.pkg, of)
				}
			}
			for of, by := range only {
				if within(p, of) && !f.test && !slices.Contains(by, f.pkg) {
					t.Errorf("%s: %s may not import %s; only %q may", f.at(s), f.pkg, p, by)
				}
			}
		}
	}
	for _, l := range layers {
		for _, of := range l.may {
			if !slices.Contains(imported[l.pkg], of) {
				t.Errorf("layers lets %s import %s, and it does not: take that out", l.pkg, of)
			}
		}
	}
}

// TestDesignTable compares the table of layers in docs/design.md with layers.
func TestDesignTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/design.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Layers\n")
	if !ok {
		t.Fatal("docs/design.md has no section Layers")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var shown, want []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z/]+) \|`).FindAllStringSubmatch(section, -1) {
		if m[1] != "package" {
			shown = append(shown, m[1])
		}
	}
	for _, l := range layers {
		want = append(want, l.pkg)
	}
	if !slices.Equal(shown, want) {
		t.Errorf("docs/design.md shows the layers\n%q\nwant, as in layers,\n%q", shown, want)
	}
}
