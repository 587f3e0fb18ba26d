package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

var long = flag.Bool("slabfs.long", false, "check the types of alloc on every port of Go")

// portable lists the packages that compile on every port, tests included.
var portable = []string{"./alloc/...", "./sysfs", "./workqueue", "./internal/cpu", "./internal/fault", "./internal/invariants",
	"./internal/lockdep", "./internal/pages", "./internal/percpu", "./internal/rseq"}

// TestPorts checks the types of the portable packages on ports of Go, from the
// source of all that they import. To compile that would take ten times as long.
func TestPorts(t *testing.T) {
	ports := []string{"aix/ppc64", "freebsd/amd64", "js/wasm", "linux/386"}
	if *long {
		ports = portList(t)
	}
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, port := range ports {
		t.Run(port, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			goos, goarch, _ := strings.Cut(port, "/")
			if err := checkTypes(goos, goarch); err != nil {
				t.Error(err)
			}
		})
	}
}

// A listed is a package as go list prints it.
type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	ImportMap  map[string]string
	Standard   bool
	Error      *struct{ Err string }
}

// checkTypes checks the types of the portable packages on one port, in the order of
// go list: a package comes after those that it imports.
func checkTypes(goos, goarch string) error {
	cmd := exec.Command("go", append([]string{"list", "-e", "-deps", "-test",
		"-json=ImportPath,Dir,GoFiles,ImportMap,Standard,Error"}, portable...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	var errs []error
	checked := map[string]*types.Package{"unsafe": types.Unsafe}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return errors.Join(errs...)
		} else if err != nil {
			return fmt.Errorf("go list: %w", err)
		}
		if p.ImportPath == "unsafe" || strings.HasSuffix(p.ImportPath, ".test") {
			continue // the main packages of tests need cgo on some ports, to be linked
		}
		if p.Error != nil {
			errs = append(errs, fmt.Errorf("%s: %s", p.ImportPath, p.Error.Err))
		}
		pkg, err := p.check(goarch, checked)
		checked[p.ImportPath] = pkg
		if err != nil {
			errs = append(errs, err)
		}
	}
}

// check checks the types of one package, and of the bodies of its functions if it
// is not Go's own.
func (p *listed) check(goarch string, checked map[string]*types.Package) (*types.Package, error) {
	var errs []error
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	conf := types.Config{
		Importer: importerFunc(func(path string) (*types.Package, error) {
			if mapped, ok := p.ImportMap[path]; ok {
				path = mapped
			}
			if pkg := checked[path]; pkg != nil {
				return pkg, nil
			}
			return nil, fmt.Errorf("%s was not listed", path)
		}),
		IgnoreFuncBodies: p.Standard,
		Sizes:            types.SizesFor("gc", goarch),
		Error:            func(err error) { errs = append(errs, err) },
	}
	path, _, _ := strings.Cut(p.ImportPath, " ")
	pkg, err := conf.Check(path, fset, files, nil)
	if errs == nil {
		errs = []error{err}
	}
	return pkg, errors.Join(errs...)
}

type importerFunc func(path string) (*types.Package, error)

func (f importerFunc) Import(path string) (*types.Package, error) { return f(path) }

// portList returns Go's ports, as system/processor.
func portList(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "tool", "dist", "list").Output()
	if err != nil {
		t.Fatalf("list Go's ports: %v", err)
	}
	return slices.Sorted(slices.Values(strings.Fields(string(out))))
}
