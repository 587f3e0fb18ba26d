package fusefs

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"slabfs/internal/lockdep"
	"slabfs/internal/testclient"
	"slabfs/sysfs"
)

// A recorder is a log handler that keeps the names of the requests.
type recorder struct {
	slog.Handler
	mu  lockdep.Mutex
	ops []string // mu
}

var request = regexp.MustCompile(`^rx \d+: (\w+)`)

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }

func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	// go-fuse polls a file of its own, once, and the kernel closes it when it likes.
	own := strings.Contains(rec.Message, fmt.Sprintf(" n%d ", uint64(math.MaxUint64)))
	if m := request.FindStringSubmatch(rec.Message); m != nil && !own {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ops = append(r.ops, m[1])
	}
	return nil
}

// take returns the requests since the last take; the last of them is awaited.
func (r *recorder) take(t *testing.T, last string) string {
	t.Helper()
	var ops string
	eventually(t, last, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !slices.Contains(r.ops, last) {
			return false
		}
		ops = strings.Join(r.ops, " ")
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = nil
	return ops
}

// TestRequests is the price list: what the kernel asks for common operations.
// Nobody waits for RELEASE and RELEASEDIR.
func TestRequests(t *testing.T) {
	rec := &recorder{}
	x := newFixture()
	s := serve(t, x.tree, Options{Debug: true, Logger: slog.New(rec)})
	c := testclient.Start(t, testclient.Options{})
	dir := "cache"
	path := func(name string) string { return s.at(dir, name) }
	openReadClose := func() {
		fd := c.OK(Op{Do: "open", Path: path("value")}).FD
		c.OK(Op{Do: "read", FD: fd, Size: 4096})
		c.OK(Op{Do: "close", FD: fd})
	}
	cat := func() { c.OK(Op{Do: "cat", Path: path("value")}) }
	echo := func() { c.OK(Op{Do: "echo", Path: path("value"), Data: []byte("1")}) }
	list := func() {
		for _, e := range c.OK(Op{Do: "readdir", Path: path("")}).Entries {
			if e.Name[0] != '.' {
				c.OK(Op{Do: "stat", Path: path(e.Name)})
			}
		}
	}
	echo() // the first time the kernel learns that there are no extended attributes and no flush
	rec.take(t, "RELEASE")
	tries := 0
	for _, tc := range []struct {
		what string
		warm bool
		do   func()
		want string
	}{
		{"open, read, close", true, openReadClose, "OPEN READ RELEASE"},
		{"cat", true, cat, "OPEN READ READ RELEASE"},
		{"echo 1 >file", true, echo, "OPEN SETATTR WRITE RELEASE"},
		{"open, read, close of what the kernel has not seen", false, openReadClose, "LOOKUP LOOKUP OPEN READ RELEASE"},
		{"ls -l of what the kernel has not seen", false, list, "LOOKUP OPENDIR READDIRPLUS READDIR RELEASEDIR"},
	} {
		last := tc.want[strings.LastIndexByte(tc.want, ' ')+1:]
		var got string
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			if !tc.warm {
				tries++
				dir = fmt.Sprint("new", tries)
				x.add(dir)
			}
			c.OK(Op{Do: "stat", Path: s.Dir()})
			c.OK(Op{Do: "stat", Path: s.at("cache", "value")})
			c.OK(Op{Do: "cat", Path: s.at("cache", "value")})
			rec.take(t, "RELEASE")
			start := time.Now()
			tc.do()
			got = rec.take(t, last)
			if time.Since(start) < time.Second/4 {
				break // else the kernel's cache may have become too old on the way
			}
		}
		if got != tc.want {
			t.Errorf("%s: %s; want %s", tc.what, got, tc.want)
		}
	}
}

// `ls -lR` of 100 caches with 30 files each takes far less than one request a
// file: the listing brings the attributes with it. A lookup for each would be 1.13.
func TestRequestsOfListing(t *testing.T) {
	const caches, files, limit = 100, 30, 0.5
	rec := &recorder{}
	x := newFixture()
	s := serve(t, x.tree, Options{Debug: true, Logger: slog.New(rec)})
	c := testclient.Start(t, testclient.Options{})
	var attrs []*sysfs.Attribute
	for i := range files {
		attrs = append(attrs, &sysfs.Attribute{Name: fmt.Sprintf("attribute_%d", i), Mode: 0o400, Show: x.attr(t, "value").Show})
	}
	best := float64(caches * files)
	for round := 0; best > limit && round < 20; round++ { // the kernel's cache may have become too old on the way
		top, err := x.tree.Root().Add(fmt.Sprint("slab", round), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range caches {
			if _, err := top.Add(fmt.Sprint("cache-", i), nil, attrs...); err != nil {
				t.Fatal(err)
			}
		}
		if round == 0 { // the first requests of a mount are another matter
			c.OK(Op{Do: "readdir", Path: s.Dir()})
			rec.take(t, "RELEASEDIR")
		}
		if r := c.OK(Op{Do: "walk", Path: s.at(top.Name())}); r.N != caches*(files+1) {
			t.Fatalf("ls -lR saw %d names; want %d", r.N, caches*(files+1))
		}
		kinds := make(map[string]int)
		ops := strings.Fields(rec.take(t, "RELEASEDIR"))
		for _, op := range ops {
			kinds[op]++
		}
		best = min(best, float64(len(ops))/(caches*files))
		t.Logf("%d requests: %v", len(ops), kinds)
	}
	if best > limit {
		t.Errorf("ls -lR: %.2f requests a file; want at most %v", best, limit)
	}
}

// BenchmarkRead is open, read and close of one attribute by another process.
func BenchmarkRead(b *testing.B) {
	x := newFixture()
	s := serve(b, x.tree, Options{})
	c := testclient.Start(b, testclient.Options{})
	r := c.OK(Op{Do: "loop", Path: s.at("cache", "value"), Size: b.N})
	b.ReportMetric(float64(r.N)/float64(b.N), "ns/op")
}
