package guard

import (
	"go/build/constraint"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A build tag holds for every module of a program. TestBuildTags wants a prefix
// of ours on each tag that is not Go's own: pebble, for one, has a tag named
// invariants.
func TestBuildTags(t *testing.T) {
	known := []string{"race", "unix", "cgo"}
	for _, port := range portList(t) {
		known = append(known, strings.Split(port, "/")...)
	}
	walk(t, func(name string) {
		if ext := filepath.Ext(name); ext != ".go" && ext != ".s" {
			return
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if !constraint.IsGoBuild(line) {
				continue
			}
			x, err := constraint.Parse(strings.TrimSpace(line))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			x.Eval(func(tag string) bool {
				if !slices.Contains(known, tag) && !strings.HasPrefix(tag, "slabfs_") && !strings.HasPrefix(tag, "fault_") {
					t.Errorf("%s: build tag %s; begin it with slabfs_ or fault_, other modules may have one of that name", name, tag)
				}
				return true
			})
		}
	})
}
