package guard

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// apart lists the modules outside the workspace, each with the reason.
var apart = map[string]string{
	"cmd/slabfs/cpeers":             "links C libraries that a plain machine lacks",
	"tools":                         "only pins the tools that CI runs",
	"integration/testdata/procfs":   "test data",
	"internal/rseq/testdata/purego": "test data",
}

// workspace returns the directories of the modules that go.work uses.
func workspace(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, m := range regexp.MustCompile(`(?m)^\t(\..*)$`).FindAllStringSubmatch(string(text), -1) {
		dirs = append(dirs, path.Clean(m[1]))
	}
	if !slices.Contains(dirs, ".") {
		t.Fatalf("go.work uses %q, and not the root", dirs)
	}
	return dirs
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(root, dir, "go.mod"))
	return err == nil
}

// TestEveryModule wants each module in the workspace, or in apart with a reason.
func TestEveryModule(t *testing.T) {
	used := workspace(t)
	seen := map[string]bool{}
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "go.mod" {
			return err
		}
		dir := path.Dir(name)
		seen[dir] = true
		if _, ok := apart[dir]; ok == slices.Contains(used, dir) {
			t.Errorf("module %s: want it either in go.work or in apart", dir)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range apart {
		if !seen[dir] {
			t.Errorf("apart lists %s, which is no module", dir)
		}
	}
}

// TestWorkIsEverything checks that "go test work" tests every package of the
// workspace: "./..." leaves nested modules out without a word.
func TestWorkIsEverything(t *testing.T) {
	cmd := exec.Command("go", "list", "work")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list work: %v", err)
	}
	var want []string
	for _, f := range goFiles(t) {
		want = append(want, path.Join(module, f.pkg))
	}
	slices.Sort(want)
	want = slices.Compact(want)
	got := strings.Fields(string(out))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("go list work prints\n%q\nthe tree has\n%q", got, want)
	}
}

// TestAdopters holds what comes with a program that requires our module: the
// modules that its go.mod gets, and those that "go list -m all" prints.
func TestAdopters(t *testing.T) {
	for _, tc := range []struct {
		imports       string
		requires, all []string // besides the program and ours
	}{
		{
			imports:  module + "/alloc",
			requires: []string{"golang.org/x/sys"},
			all:      []string{"github.com/hanwen/go-fuse/v2", "github.com/moby/sys/mountinfo", "golang.org/x/arch", "golang.org/x/sys"},
		},
		{
			imports:  module + "/sysfs/slabattr",
			requires: []string{"github.com/hanwen/go-fuse/v2", "github.com/moby/sys/mountinfo", "golang.org/x/sys"},
			all: []string{
				"github.com/hanwen/go-fuse/v2", "github.com/kylelemons/godebug", "github.com/moby/sys/mountinfo", "github.com/rasky/go-xdr",
				"github.com/willscott/go-nfs-client", "golang.org/x/arch", "golang.org/x/sync", "golang.org/x/sys",
			},
		},
	} {
		t.Run(path.Base(tc.imports), func(t *testing.T) {
			run := adopter(t, tc.imports)
			run("mod", "tidy")
			others := func(list string) []string {
				return slices.DeleteFunc(strings.Fields(list), func(m string) bool { return m == "adopter" || m == module })
			}
			if got := others(run("list", "-m", "-f", "{{if not .Main}}{{.Path}}{{end}}", "all")); !slices.Equal(got, tc.all) {
				t.Errorf("go list -m all of a program that imports %s prints %q, want %q", tc.imports, got, tc.all)
			}
			var mod struct{ Require []struct{ Path string } }
			if err := json.Unmarshal([]byte(run("mod", "edit", "-json")), &mod); err != nil {
				t.Fatal(err)
			}
			var required []string
			for _, r := range mod.Require {
				if r.Path != module {
					required = append(required, r.Path)
				}
			}
			if !slices.Equal(required, tc.requires) {
				t.Errorf("go mod tidy of a program that imports %s requires %q, want %q", tc.imports, required, tc.requires)
			}
		})
	}
}

// adopter makes a module whose program imports a package of ours, and returns a
// function that runs the go command there and returns its output.
func adopter(t *testing.T, imports string) (run func(args ...string) string) {
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	goLine := regexp.MustCompile(`(?m)^go .*$`).FindString(read("go.mod"))
	for name, text := range map[string]string{
		"main.go": "package main\n\nimport _ \"" + imports + "\"\n\nfunc main() {}\n",
		"go.mod":  "module adopter\n\n" + goLine + "\n\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + abs + "\n",
		"go.sum":  read("go.sum"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %q: %v\n%s", args, err, errs.String())
		}
		return string(out)
	}
}
