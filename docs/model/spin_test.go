//go:build !race && !slabfs_invariants

// The model is the same in every build: those two need not check it again.

package model_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	result  = regexp.MustCompile(`errors: (\d+)\n\s+(\d+) states, stored`)
	finding = regexp.MustCompile(`(?m)^pan:1: (.*) \(at depth \d+\)$`)
)

func TestModel(t *testing.T) {
	for _, tool := range []string{"spin", "gcc"} {
		switch _, err := exec.LookPath(tool); {
		case err != nil && os.Getenv("CI") == "true":
			t.Fatal(err)
		case err != nil:
			t.Skipf("%v; apt-get install spin gcc", err)
		}
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) { v.check(t) })
	}
}

func (v variant) check(t *testing.T) {
	dir := t.TempDir() // spin and its checker write where they run
	if err := os.WriteFile(filepath.Join(dir, file), []byte(read(t, file)), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
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
