package guard

import (
	"bytes"
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a reader can keep in mind.
const (
	maxFile     = 400 // lines
	maxFunction = 60
)

// TestLengths bounds files and functions, tests left out.
func TestLengths(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		for _, d := range f.Decls {
			fd, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := f.fset.Position(fd.End()).Line - f.fset.Position(fd.Pos()).Line + 1
			if lines > maxFunction {
				t.Errorf("%s: %s has %d lines; want at most %d", f.at(fd), fd.Name.Name, lines, maxFunction)
			}
		}
	}
	walk(t, func(name string) {
		if strings.HasSuffix(name, "_test.go") || !strings.Contains(" .go .s .h .c ", " "+filepath.Ext(name)+" ") {
			return
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(text, []byte("\n")); lines > maxFile {
			t.Errorf("%s has %d lines; want at most %d", name, lines, maxFile)
		}
	})
}
