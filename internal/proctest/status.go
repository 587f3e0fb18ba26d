package proctest

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Status returns a figure of /proc/self/status in bytes, such as VmData. It
// fails the test if there is none of that name.
func Status(tb testing.TB, name string) (bytes int64) {
	tb.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if got, _ := fmt.Sscanf(line, name+": %d kB", &bytes); got == 1 {
			return bytes << 10
		}
	}
	tb.Fatalf("no %s in /proc/self/status", name)
	return 0
}
