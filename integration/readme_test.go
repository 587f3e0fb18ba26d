package integration

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The program in README compiles, shows what it allocates, and leaves nothing
// however it ends.
func TestReadmeProgram(t *testing.T) {
	needRoot(t)
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```go\n(package main\n.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatal("README.md has no program")
	}
	dir := filepath.Dir(root.newDir(t, false))
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(source, m[1], 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"vet", source}, {"build", "-o", program, source}} {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			t.Fatalf("go %q: %v\n%s", args, err, out)
		}
	}
	mnt := filepath.Join(dir, "mnt")
	c := root.client(t)
	for _, end := range []struct {
		how    string
		by     func(*exec.Cmd) error
		status int // -1: the signal's
	}{
		{"SIGTERM", func(cmd *exec.Cmd) error { return cmd.Process.Signal(unix.SIGTERM) }, -1},
		{"SIGINT", func(cmd *exec.Cmd) error { return cmd.Process.Signal(unix.SIGINT) }, -1},
		{"umount", func(*exec.Cmd) error { return exec.Command("umount", mnt).Run() }, 0},
	} {
		cmd := exec.Command(program)
		cmd.Dir = dir // mounts on mnt here
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		file, found := strings.CutPrefix(strings.TrimSpace(line), "try: cat ")
		if err != nil || !found {
			t.Fatalf("the program says %q, %v; want what to try", line, err)
		}
		if got := cat(c, filepath.Join(dir, file)); got != "1 N0=1\n" {
			t.Errorf("%s: %q; want one object", file, got)
		}
		if err := end.by(cmd); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
		if status := cmd.ProcessState.ExitCode(); status != end.status || errs.Len() > 0 {
			t.Errorf("%s: %v, %q; want status %d and silence", end.how, cmd.ProcessState, &errs, end.status)
		}
		if mounted(t, mnt) || exists(t, mnt) {
			t.Errorf("%s: mounted %v, directory is there %v; want neither", end.how, mounted(t, mnt), exists(t, mnt))
		}
	}
}

// The lines at the top of README compile.
func TestReadmeLines(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatal("README.md has no Go")
	}
	source := filepath.Join(t.TempDir(), "main.go")
	program := "package main\nimport (\"log\"; \"slabfs/alloc\")\nfunc main() {\n" + string(m[1]) + "}\n"
	if err := os.WriteFile(source, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "vet", source).CombinedOutput(); err != nil {
		t.Fatalf("go vet: %v\n%s", err, out)
	}
}

// The unit in docs/operating.md can be enabled, and names the commands rightly.
func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```ini\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatal("docs/operating.md has no unit")
	}
	for _, want := range []string{"[Unit]\nDescription=", "[Service]\nExecStart=/usr/local/bin/slabfs mount /", "[Install]\nWantedBy=multi-user.target\n"} {
		if !bytes.Contains(m[1], []byte(want)) {
			t.Errorf("the unit\n%slacks %q", m[1], want)
		}
	}
}
