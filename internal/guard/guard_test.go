package guard

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "slabfs"
	root   = "../.." // of the workspace
)

// only lists modules of others and who may import them; tests may too.
var only = map[string][]string{
	"github.com/hanwen/go-fuse": {"sysfs/fusefs"},
	"github.com/spf13":          {"cmd/slabfs"},
	"golang.org/x/arch":         {"internal/seqtest"},
	"github.com/bytedance":      {"cmd/slabfs/internal/bench"},
	"modernc.org":               {"cmd/slabfs/internal/bench"},
	"C":                         {},
}

// unsafeIn lists the packages that may import unsafe in any file. Others may
// in files whose name ends in _unsafe.go, and in tests.
var unsafeIn = []string{"alloc", "internal/pages", "internal/percpu", "internal/rseq"}

// A file is one Go file of the workspace.
type file struct {
	path string // from the root
	pkg  string // its directory, from the root
	test bool
	fset *token.FileSet
	*ast.File
}

// at returns where a node is, as compilers write it.
func (f *file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(n.Pos()).Line)
}

// goFiles parses every Go file of the workspace.
func goFiles(t *testing.T) []*file {
	t.Helper()
	var files []*file
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".go") {
			return
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, &file{name, path.Dir(name), strings.HasSuffix(name, "_test.go"), fset, f})
	})
	if len(files) == 0 {
		t.Fatal("no Go file found")
	}
	return files
}

// walk calls f with each file of the workspace's modules. It leaves out other
// modules, hidden directories and test data.
func walk(t *testing.T, f func(name string)) {
	t.Helper()
	used := workspace(t)
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !d.IsDir():
			f(name)
		case name == ".":
		case strings.HasPrefix(d.Name(), "."), d.Name() == "testdata":
			return fs.SkipDir
		case isModule(name) && !slices.Contains(used, name):
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// importPath returns what an import imports.
func importPath(t *testing.T, s *ast.ImportSpec) string {
	t.Helper()
	p, err := strconv.Unquote(s.Path.Value)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// within reports whether the import path p is of the module or package tree of.
func within(p, of string) bool { return p == of || strings.HasPrefix(p, of+"/") }

// TestAllocIsSmall checks what a program links that wants only the allocator.
func TestAllocIsSmall(t *testing.T) {
	for _, cgo := range []string{"0", "1"} {
		cmd := exec.Command("go", "list", "-deps", "./alloc")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("list what alloc depends on: %v", err)
		}
		deps := strings.Fields(string(out))
		if !slices.Contains(deps, module+"/internal/lockdep") {
			t.Errorf("CGO_ENABLED=%s: go list -deps ./alloc does not name internal/lockdep: %q", cgo, deps)
		}
		for _, dep := range deps {
			first, _, _ := strings.Cut(dep, "/")
			foreign := strings.Contains(first, ".") && !within(dep, "golang.org/x/sys") && !within(dep, module)
			if foreign || dep == "runtime/cgo" || within(dep, "net") || within(dep, module+"/sysfs") {
				t.Errorf("CGO_ENABLED=%s: alloc links %s", cgo, dep)
			}
		}
	}
}

// TestLocksFromLockdep looks for the locks that no checker sees.
func TestLocksFromLockdep(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.pkg == "internal/lockdep" {
			continue
		}
		name := "" // of package sync in this file
		for _, s := range f.Imports {
			switch {
			case importPath(t, s) != "sync":
			case s.Name == nil:
				name = "sync"
			case s.Name.Name == ".":
				t.Errorf("%s: import sync under a name, so that its locks can be found", f.at(s))
			default:
				name = s.Name.Name
			}
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Mutex" && sel.Sel.Name != "RWMutex" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && name != "" && x.Name == name {
				t.Errorf("%s: sync.%s; take locks from internal/lockdep", f.at(sel), sel.Sel.Name)
			}
			return true
		})
	}
}

func TestUnsafe(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || slices.Contains(unsafeIn, f.pkg) || strings.HasSuffix(f.path, "_unsafe.go") {
			continue
		}
		for _, s := range f.Imports {
			if importPath(t, s) == "unsafe" {
				t.Errorf("%s: imports unsafe; only %q and files named _unsafe.go may", f.at(s), unsafeIn)
			}
		}
	}
}

// TestPragmas forbids go:linkname, which ties code to what others may change
// without notice, and wants a reason beside each other pragma.
func TestPragmas(t *testing.T) {
	pragma := regexp.MustCompile(`^//go:(\w+)`)
	harmless := []string{"build", "embed", "generate"} // say what they do
	for _, f := range goFiles(t) {
		for _, group := range f.Comments {
			prose := strings.TrimSpace(group.Text()) != "" // Text leaves pragmas out
			for _, c := range group.List {
				m := pragma.FindStringSubmatch(c.Text)
				switch {
				case m == nil || slices.Contains(harmless, m[1]):
				case m[1] == "linkname":
					t.Errorf("%s: go:linkname is forbidden", f.at(c))
				case !prose:
					t.Errorf("%s: go:%s without a reason in the same comment", f.at(c), m[1])
				}
			}
		}
	}
}

// TestPackageComments wants each package's story in its doc.go.
func TestPackageComments(t *testing.T) {
	packages := map[string]bool{} // whether a doc.go tells its story
	for _, f := range goFiles(t) {
		isDoc := path.Base(f.path) == "doc.go"
		packages[f.pkg] = packages[f.pkg] || isDoc && f.Doc != nil
		switch {
		case f.test || f.Doc == nil:
		case !isDoc:
			t.Errorf("%s: a package comment outside doc.go", f.at(f.Doc))
		case f.Name.Name != "main" && !strings.HasPrefix(f.Doc.Text(), "Package "+f.Name.Name+" "):
			t.Errorf("%s: the package comment does not begin with %q", f.at(f.Doc), "Package "+f.Name.Name)
		}
	}
	for pkg, ok := range packages {
		if !ok {
			t.Errorf("%s has no doc.go with a package comment", pkg)
		}
	}
}

// TestLinks checks that the files exist to which the documents point.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`) // not of other sites, which have a colon
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".md") {
			return
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				if _, err := os.Stat(filepath.Join(root, path.Dir(name), m[1])); err != nil {
					t.Errorf("%s:%d: link to %q: %v", name, i+1, m[1], err)
				}
			}
		}
	})
}
