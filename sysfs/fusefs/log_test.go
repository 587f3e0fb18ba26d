package fusefs

import (
	"bufio"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"slabfs/internal/testclient"
)

// A log into a pipe that nobody reads holds up no request and not the end.
func TestLogThatNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x := newFixture()
	s := serve(t, x.tree, Options{Debug: true, Logger: slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	c := testclient.Start(t, testclient.Options{})
	eventually(t, "lines are dropped", func() bool {
		c.OK(Op{Do: "cat", Path: s.at("cache", "value")})
		return s.Stats().Unlogged > 0
	})
	ended := make(chan error, 1)
	go func() { ended <- s.Unmount(patiently(t)) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the end waits for the log")
	}
	lines := bufio.NewScanner(r) // now somebody does
	for lines.Scan() {
		if strings.Contains(lines.Text(), "log lines were dropped") {
			w.Close()
			return
		}
	}
	t.Error("the log does not say that lines were dropped")
}
