package guard

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// eachLine calls f with each line of each document and with where it is.
func eachLine(t *testing.T, f func(name string, number int, line string)) {
	t.Helper()
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".md") {
			return
		}
		s := bufio.NewScanner(strings.NewReader(read(t, name)))
		for number := 1; s.Scan(); number++ {
			f(name, number, s.Text())
		}
	})
}

// TestNamedFiles checks that each source file that a document names exists, and
// has the line that is told. The end of a path is enough to name a file.
func TestNamedFiles(t *testing.T) {
	var files []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, "/"+name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	source := regexp.MustCompile(`(^|[^\w./@-])([\w-][\w./-]*\.(?:go|s|pml))(?::(\d+))?\b`)
	eachLine(t, func(doc string, number int, line string) {
		for _, m := range source.FindAllStringSubmatch(line, -1) {
			lines := -1
			for _, name := range files {
				if strings.HasSuffix(name, "/"+m[2]) {
					lines = max(lines, strings.Count(read(t, name), "\n"))
				}
			}
			if n, _ := strconv.Atoi(m[3]); n > lines {
				t.Errorf("%s:%d: %s is not there", doc, number, strings.TrimSpace(m[0]))
			}
		}
	})
}

// TestQuotedFrames checks the frames of the stacks that documents quote: the file
// has the function, and the function has the line if a line is told.
func TestQuotedFrames(t *testing.T) {
	frame := regexp.MustCompile(`\b` + regexp.QuoteMeta(module) + `/([\w/]+)\.([\w.*()]+)(?:\+0x[0-9a-f]+)? (?:\w+/)?(\w+\.go)(?::(\d+))?$`)
	quoted := 0
	eachLine(t, func(doc string, number int, line string) {
		m := frame.FindStringSubmatch(line)
		if m == nil {
			return
		}
		quoted++
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, filepath.Join(root, m[1], m[3]), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%s:%d: %v", doc, number, err)
			return
		}
		at, _ := strconv.Atoi(m[4])
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && funcName(fn) == m[2] {
				if at == 0 || fset.Position(fn.Pos()).Line <= at && at <= fset.Position(fn.End()).Line {
					return
				}
			}
		}
		t.Errorf("%s:%d: %s is not at %s", doc, number, m[2], path.Join(m[1], m[3])+":"+m[4])
	})
	if quoted == 0 {
		t.Error("no document quotes a stack; see docs/locking.md")
	}
}

// funcName returns a function's name as stacks have it: (*T).M, T.M or F.
func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	typ, open, end := fn.Recv.List[0].Type, "", "."
	if star, ok := typ.(*ast.StarExpr); ok {
		typ, open, end = star.X, "(*", ")."
	}
	name, ok := typ.(*ast.Ident)
	if !ok {
		return fn.Name.Name // of a generic type, which no document quotes
	}
	return open + name.Name + end + fn.Name.Name
}
