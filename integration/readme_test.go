package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// The program in README compiles, mounts and ends.
func TestReadmeProgram(t *testing.T) {
	needRoot(t)
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatal("README.md has no program")
	}
	dir := filepath.Dir(root.newDir(t, true))
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(source, m[1], 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"vet", source}, {"build", "-o", program, source}} {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			t.Fatalf("go %q: %v\n%s", args, err, out)
		}
	}
	cmd := exec.Command(program)
	cmd.Dir = dir // mounts on mnt here
	if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("the program: %v, output:\n%swant none", err, out)
	}
}
