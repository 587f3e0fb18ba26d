package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"slabfs/internal/fault"
)

// A lesson is a command of docs/learn.md and what the page says that it prints.
type lesson struct {
	flags  []string // of slabfs stress
	quoted string   // "..." stands for anything
}

// lessons returns the commands that call slabfs, in the order of the page.
func lessons(t *testing.T) (list []lesson) {
	t.Helper()
	text, err := os.ReadFile("../docs/learn.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?ms)^```(console|text)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		if block[1] == "text" {
			if len(list) == 0 || list[len(list)-1].quoted != "" {
				t.Fatalf("output of no command:\n%s", block[2])
			}
			list[len(list)-1].quoted = block[2]
			continue
		}
		for line := range strings.Lines(block[2]) {
			if command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ slabfs stress "); ok {
				list = append(list, lesson{flags: strings.Fields(command)})
			} else if strings.Contains(line, "slabfs ") {
				t.Errorf("no test runs %q", line)
			}
		}
	}
	return list
}

// TestLearn runs the commands of docs/learn.md: each finds what the page says.
func TestLearn(t *testing.T) {
	needRoot(t)
	t.Parallel()
	var found []string
	for _, l := range lessons(t) {
		for _, f := range l.flags {
			if name, ok := strings.CutPrefix(f, "--inject="); ok && !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
		t.Run(strings.Join(l.flags, " "), func(t *testing.T) {
			t.Parallel()
			l.run(t)
		})
	}
	for _, name := range fault.Names() {
		if !slices.Contains(found, name) {
			t.Errorf("docs/learn.md has no exercise on %s", name)
		}
	}
}

// run runs the command for longer and longer until it says what the page says:
// how soon is a matter of the machine.
func (l lesson) run(t *testing.T) {
	wantViolation := strings.Contains(l.quoted, "stress: violation: ")
	for d := 10 * time.Second; ; d *= 2 {
		flags := l.flags
		if d > 10*time.Second {
			flags = append(slices.Clone(flags), "--duration="+d.String())
		}
		status, out, errs := root.stressOf(t, flags...)
		switch inconclusive := status == 5 && strings.Contains(errs, "inconclusive"); {
		case wantViolation && status == 5 && l.says(out+errs):
			return
		case !wantViolation && (status == 0 && l.says(out+errs) || inconclusive):
			return
		case !wantViolation || d > patience/2:
			t.Fatalf("status %d; want what docs/learn.md quotes:\n%s\nstandard output and error:\n%s\n%.3000s", status, l.quoted, out, errs)
		}
	}
}

// TestLearnQuotes checks that stress can still print each line that the page
// quotes, also those that no run needs to print.
func TestLearnQuotes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../cmd/slabfs/internal/stress/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var sources strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(text)
	}
	varies := regexp.MustCompile(`\.\.\.|\d+|\bstress: violation: |[;,] | \(`)
	for _, l := range lessons(t) {
		for line := range strings.Lines(l.quoted) {
			for _, part := range varies.Split(strings.TrimSpace(line), -1) {
				if part = strings.Trim(part, " ;.:"); len(part) > 12 && !strings.Contains(sources.String(), part) {
					t.Errorf("docs/learn.md quotes %q, which stress does not print", part)
				}
			}
		}
	}
}

// says reports whether one of the findings that the page quotes was printed. A
// finding is a line and the indented lines after it.
func (l lesson) says(output string) bool {
	return slices.ContainsFunc(strings.Split("\n"+strings.TrimSpace(l.quoted), "\nstress: "), func(finding string) bool {
		finding = strings.TrimSpace(finding)
		pattern := strings.ReplaceAll(regexp.QuoteMeta(finding), `\.\.\.`, ".*")
		return finding != "" && regexp.MustCompile(`(?m)`+pattern+`$`).MatchString(output)
	})
}
