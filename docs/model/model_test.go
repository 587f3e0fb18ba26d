package model_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"slabfs/internal/fault"
)

const file = "destroy.pml"

// A variant is the model with some switches. If want is empty, spin must find no
// error; else it is the error that spin must find.
type variant struct {
	name     string
	switches []string
	want     string
}

const deadlock = "invalid end state"

var variants = []variant{
	{"as built", nil, ""},
	{"unlink under locks", []string{"UNLINK_UNDER_LOCKS"}, deadlock},
	{"unlink under locks, no hotplug", []string{"UNLINK_UNDER_LOCKS", "NO_HOTPLUG"}, ""}, // the trap
	{"notify under locks", []string{"NOTIFY_UNDER_LOCKS"}, deadlock},
	{"notify under locks, no hotplug", []string{"NOTIFY_UNDER_LOCKS", "NO_HOTPLUG"}, ""},
	{"publish before unlink", []string{"PUBLISH_BEFORE_UNLINK"}, "assertion violated cache[c].unlinked"},
	{"late unlink", []string{"LATE_UNLINK"}, "assertion violated ((dir[n]!=c)&&(names[n]!=c))"},
	{"late unlink, no promise", []string{"LATE_UNLINK", "NO_PROMISE"}, ""},
	{"early name", []string{"EARLY_NAME"}, "assertion violated (dir[(2%2)]==255)"},
	{"no drain", []string{"NO_DRAIN"}, "assertion violated  !(cache[c].refs)"},
	{"release before unlink", []string{"RELEASE_BEFORE_UNLINK"}, "assertion violated cache[c].unlinked"},
	{"publish under locks", []string{"PUBLISH_UNDER_LOCKS"}, deadlock},
	{"no barrier", []string{"NO_BARRIER"}, "assertion violated  !(cache[c].callback)"},
	{"barrier in destroy", []string{"BARRIER_IN_DESTROY"}, ""},
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// matches returns what the group of re matches in text, in order.
func matches(re, text string) []string {
	var all []string
	for _, m := range regexp.MustCompile(re).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// A switch that no variant sets, or that changes nothing, is a mistake of its own.
func TestSwitches(t *testing.T) {
	set := map[string]bool{}
	for _, v := range variants {
		for _, s := range v.switches {
			set[s] = true
		}
	}
	text := read(t, file)
	used := matches(`(?m)^#if.*?\b([A-Z]+_[A-Z_]+)`, text)
	for _, s := range append(used, matches(`(?m)^ \*   ([A-Z_]+)  `, text)...) {
		if !set[s] {
			t.Errorf("%s: no variant sets %s", file, s)
		}
	}
	for s := range set {
		if !slices.Contains(used, s) {
			t.Errorf("%s does not ask for %s", file, s)
		}
	}
	slices.Sort(used)
	told := matches(`(?m)^\| ([A-Z_]+) \|`, read(t, "README.md"))
	slices.Sort(told)
	if used = slices.Compact(used); !slices.Equal(told, used) {
		t.Errorf("README.md tells of %q; %s asks for %q", told, file, used)
	}
}

// What can be injected into the program is in the model, and in the tables.
func TestInjected(t *testing.T) {
	names := fault.Names()
	slices.Sort(names)
	for file, table := range map[string]string{"README.md": `(?m)^\| [A-Z_]+ \| ([a-z-]+) \|$`, "../locking.md": `(?m)^\| ([a-z]+-[a-z-]+) \|`} {
		told := matches(table, read(t, file))
		if slices.Sort(told); !slices.Equal(told, names) {
			t.Errorf("%s tells of %q; package fault has %q", file, told, names)
		}
	}
}

// The steps of the model are those that alloc lists, in that order, and each is
// marked in alloc where it is done.
func TestSteps(t *testing.T) {
	sources, err := filepath.Glob("../../alloc/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var listed, marked []string
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text := read(t, name)
		marked = append(marked, matches(`// step: (.+)\n`, text)...)
		if filepath.Base(name) == "destroy.go" {
			_, list, _ := strings.Cut(text, "The steps:\n//\n")
			list, _, _ = strings.Cut(list, "//\n")
			list, _, _ = strings.Cut(list, "func ")
			listed = matches(`//\t(.+?)  .*\n`, list)
		}
	}
	if len(listed) == 0 {
		t.Fatal("alloc/destroy.go lists no steps")
	}
	if got := matches(`/\* step: (.+?) \*/`, read(t, file)); !slices.Equal(got, listed) {
		t.Errorf("steps of %s: %q; alloc/destroy.go lists %q", file, got, listed)
	}
	slices.Sort(listed)
	slices.Sort(marked)
	if !slices.Equal(marked, listed) {
		t.Errorf("steps marked in alloc: %q; alloc/destroy.go lists %q", marked, listed)
	}
}
