package asynclog

import (
	"bytes"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A gate is a writer that lets nothing through until it is opened.
type gate struct {
	bytes.Buffer
	open chan struct{}
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.Buffer.Write(p)
}

// Who logs does not wait for the log. What is too much is counted, and the log says
// so when it can be written again; what was logged before is there, in order.
func TestBlockedLog(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	h := New(slog.NewTextHandler(g, nil))
	log := slog.New(h).With("of", "us").WithGroup("group")
	const lines = room + 500
	for i := range lines {
		log.Info("line", "number", i)
	}
	log.Debug("not of this level")
	h.Flush(time.Millisecond) // in vain
	dropped := h.Dropped()
	if dropped != lines-room && dropped != lines-room-1 { // one may be on its way
		t.Errorf("%d of %d lines are dropped; there is room for %d", dropped, lines, room)
	}
	close(g.open)
	h.Flush(time.Minute)
	got := strings.Split(strings.TrimSuffix(g.String(), "\n"), "\n")
	if len(got) != int(lines-dropped)+1 {
		t.Fatalf("%d lines; want those that were not dropped, and one that says so:\n%s", len(got), got)
	}
	last := -1
	for _, line := range got[:len(got)-1] {
		_, number, _ := strings.Cut(line, "msg=line of=us group.number=")
		n, err := strconv.Atoi(number)
		if err != nil || n <= last {
			t.Fatalf("after line %d: %s", last, line)
		}
		last = n
	}
	if end := got[len(got)-1]; !strings.Contains(end, "dropped") || !strings.Contains(end, fmt.Sprint("lines=", dropped)) {
		t.Errorf("the last line is %s; want %d dropped ones", end, dropped)
	}
	log.Info("again")
	h.Do(func() { g.WriteString("raw\n") })
	h.Flush(time.Minute)
	h.Flush(time.Minute) // at rest
	if !strings.HasSuffix(g.String(), "msg=again of=us\nraw\n") || h.Dropped() != dropped {
		t.Errorf("at the end: %.100q, %d dropped", g.String()[g.Len()-100:], h.Dropped())
	}
}

// A log is put into one queue only.
func TestNewOfHandler(t *testing.T) {
	h := New(slog.DiscardHandler)
	if New(h) != h {
		t.Error("a second queue before the first")
	}
}
