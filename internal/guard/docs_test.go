package guard

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// read returns the text of a file of the module.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestOldestGo compares what the documents ask for with go.mod.
func TestOldestGo(t *testing.T) {
	want := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if want == nil {
		t.Fatal("go.mod has no go line")
	}
	for _, name := range []string{"README.md", "CONTRIBUTING.md"} {
		said := regexp.MustCompile(`\bGo (\d+\.\d+)`).FindAllStringSubmatch(read(t, name), -1)
		if len(said) == 0 {
			t.Errorf("%s does not say which Go is needed", name)
		}
		for _, m := range said {
			if m[1] != want[1] {
				t.Errorf("%s says Go %s, go.mod says %s", name, m[1], want[1])
			}
		}
	}
}
