//go:build !race && !slabfs_invariants

// The model is the same in every build: those two need not check it again.

package model_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	result  = regexp.MustCompile(`errors: (\d+)\n\s+(\d+) states, stored`)
	finding = regexp.MustCompile(`(?m)^pan:1: (.*) \(at depth \d+\)$`)
)

func TestModel(t *testing.T) {
	needSpin(t)
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) { v.check(t) })
	}
}

// needSpin skips the test where the checker is not installed, which it is in CI.
func needSpin(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"spin", "gcc"} {
		switch _, err := exec.LookPath(tool); {
		case err != nil && os.Getenv("CI") == "true":
			t.Fatal(err)
		case err != nil:
			t.Skipf("%v; apt-get install spin gcc", err)
		}
	}
}

// inCopy returns a function that runs a command beside a copy of the model: spin
// and its checker write where they run.
func inCopy(t *testing.T) func(name string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, file), []byte(read(t, file)), 0o644); err != nil {
		t.Fatal(err)
	}
	return func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
}

func (v variant) check(t *testing.T) {
	run := inCopy(t)
	var defines []string
	for _, s := range v.switches {
		defines = append(defines, "-D"+s)
	}
	start := time.Now()
	run("spin", append(defines, "-a", file)...)
	run("gcc", "-DSAFETY", "-o", "pan", "pan.c") // what -O saves here it costs there
	out := run("./pan", "-b", "-m10000")         // -b: a search that ends at this depth is an error
	r := result.FindStringSubmatch(out)
	if r == nil {
		t.Fatalf("no result:\n%s", out)
	}
	t.Logf("errors: %s, %s states, %v", r[1], r[2], time.Since(start).Round(time.Millisecond))
	found := ""
	if f := finding.FindStringSubmatch(out); f != nil {
		found = f[1]
	}
	if found != v.want {
		t.Errorf("spin found %q; want %q\n%s", found, v.want, out)
		if found != "" {
			t.Logf("the counter-example:\n%s", run("spin", append(defines, "-t", "-p", "-l", file)...))
		}
	}
	if v.switches == nil {
		reached(t, out)
	}
	if errors := map[bool]string{true: "0", false: "1"}[v.want == ""]; r[1] != errors {
		t.Errorf("errors: %s; want %s", r[1], errors)
	}
}

// reached fails if the search left a statement out: of that it says nothing.
func reached(t *testing.T, out string) {
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "\t"+file+":") && !strings.HasSuffix(line, `"-end-"`) {
			t.Errorf("never reached: %s", strings.TrimSpace(line))
		}
	}
}

// TestTrail runs the commands that the pages show, and looks for the steps that
// they quote in the trail. Words that are not from spin follow a step after
// several spaces.
func TestTrail(t *testing.T) {
	needSpin(t)
	for _, page := range []string{"README.md", "../learn.md"} {
		t.Run(filepath.Base(page), func(t *testing.T) { testTrail(t, page) })
	}
}

func testTrail(t *testing.T, page string) {
	text := read(t, page)
	run, trail := inCopy(t), ""
	for _, command := range matches(`(?m)^\$ (spin .*?)(?: +#.*)?$`, text) {
		args := strings.Fields(command)
		trail += run(args[0], args[1:]...)
	}
	steps := map[string]bool{}
	for line := range strings.Lines(trail) {
		steps[strings.TrimSpace(line)] = true
	}
	quoted := matches(`(?m)^ *(\d+:\tproc .*?)(?:  {3,}.*)?$`, text)
	if len(quoted) == 0 {
		t.Errorf("%s quotes no step", page)
	}
	for _, step := range quoted {
		if !steps[step] {
			t.Errorf("%s quotes %q, which is not in the trail", page, step)
		}
	}
}

// README.md tells the line of one inline in a sentence.
func TestLineInWords(t *testing.T) {
	told := regexp.MustCompile(`line (\d+) is (\w+)\.`).FindStringSubmatch(read(t, "README.md"))
	if told == nil {
		t.Fatal("README.md tells no line of an inline")
	}
	n, err := strconv.Atoi(told[1])
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(read(t, file), "\n"); n > len(lines) || !strings.HasPrefix(lines[n-1], "inline "+told[2]+"(") {
		t.Errorf("README.md says that line %d of %s is %s; it is not", n, file, told[2])
	}
}
