package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"slabfs/internal/testclient"
)

// rss returns the resident memory of a server in KiB.
func (s *server) rss(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), "status"))
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if err != nil || m == nil {
		t.Fatalf("no VmRSS: %v", err)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// 19,000 descriptors of one client, all of which have read, cost memory in
// proportion and nothing else; they go with their client.
func TestManyDescriptors(t *testing.T) {
	needRoot(t)
	t.Parallel()
	const many = 19_000
	s := root.mount(t, root.newDir(t, true), "--cache", "doomed:100:no_merge")
	hoarder, c := root.client(t), root.client(t)
	// The limit of descriptors may be lower; then several clients share them.
	left, clients := many, []*testclient.Client{hoarder}
	for left > 0 {
		n := min(left, descriptorLimit(t)-100)
		if r := clients[len(clients)-1].OK(Op{Do: "openmany", Path: s.attr("doomed", "objects"), Size: n}); r.N != int64(n) {
			t.Fatalf("%d descriptors; want %d", r.N, n)
		}
		if left -= n; left > 0 {
			clients = append(clients, root.client(t))
		}
	}
	if raceEnabled {
		t.Logf("resident: %d KiB", s.rss(t))
	} else if kib := s.rss(t); kib > 100<<10 {
		t.Errorf("%d KiB resident with %d descriptors; want less than 100 MiB", kib, many)
	}
	cat(c, s.attr("doomed", "objects"))
	echo(c, s.attr("doomed", "cpu_partial"), "20")
	fd := hoarder.OK(Op{Do: "open", Path: s.attr("doomed", "objects")}).FD
	if r := hoarder.OK(Op{Do: "read", FD: fd, Size: 100}); string(r.Data) != "0\n" {
		t.Errorf("one more descriptor reads %q; want 0", r.Data)
	}
	echo(c, s.module("delete_cache"), "doomed") // a descriptor keeps no cache alive
	c.Want(unix.ENOENT, Op{Do: "stat", Path: s.attr("doomed", "objects")})
	hoarder.Want(unix.ENODEV, Op{Do: "pread", FD: fd, Size: 100})
	echo(c, s.module("new_cache"), "doomed 100")
	cat(c, s.attr("doomed", "objects"))
	for _, client := range clients {
		client.Kill()
	}
	c.Kill()
	s.signal(unix.SIGTERM)
	s.wantStatus(0) // not "busy"
	if errs := s.errs.String(); errs != "" {
		t.Errorf("standard error:\n%swant nothing", errs)
	}
}

func descriptorLimit(t *testing.T) int {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return int(min(limit.Max, 1<<20))
}

// Clients that do what no client should.
func TestOddClients(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := root.mount(t, root.newDir(t, true), "--cache", "odd:100:no_merge")
	c := root.client(t)
	path := s.attr("odd", "min_partial")
	rw := c.OK(Op{Do: "open", Path: path, Flags: unix.O_RDWR}).FD
	for _, w := range []struct {
		data  []byte
		off   int64
		n     int64
		errno unix.Errno
		shows string
	}{
		{bytes.Repeat([]byte("0"), 64<<10), 0, 4096, 0, "0\n"},
		{append(bytes.Repeat([]byte("0"), 4095), bytes.Repeat([]byte("7"), 61441)...), 0, 4096, 0, "7\n"},
		{bytes.Repeat([]byte("x"), 64<<10), 0, 0, unix.EINVAL, "7\n"},
		{bytes.Repeat([]byte("9"), 64<<10), 0, 0, unix.ERANGE, "7\n"},
		{bytes.Repeat([]byte("0"), 1<<20), 1 << 40, 4096, 0, "0\n"},
		{[]byte("8"), 1 << 40, 1, 0, "8\n"},
		{[]byte("junk"), 1 << 40, 0, unix.EINVAL, "8\n"},
		{[]byte("9\n"), 1<<40 + 1, 2, 0, "9\n"},
	} {
		r := c.Do(Op{Do: "pwrite", FD: rw, Data: w.data, Off: w.off})
		if got := cat(c, path); r.N != w.n || r.Errno != w.errno || got != w.shows {
			t.Errorf("%d bytes %.3q at %d: %d, %v, reads %q; want %d, %v, %q", len(w.data), w.data, w.off, r.N, r.Errno, got, w.n, w.errno, w.shows)
		}
	}

	// A byte at a time, each on its own: one value, also when it changes on the way.
	echo(c, path, "1234567890")
	fd := c.OK(Op{Do: "open", Path: path}).FD
	var text strings.Builder
	for {
		r := c.OK(Op{Do: "read", FD: fd, Size: 1})
		if r.N == 0 {
			break
		}
		text.Write(r.Data)
		echo(c, path, strings.Repeat("9", 1+text.Len()))
	}
	if text.String() != "1234567890\n" {
		t.Errorf("byte by byte: %q; want the value at the beginning", text.String())
	}

	// One stops half way, and the cache goes meanwhile.
	echo(c, path, "1234567890")
	c.OK(Op{Do: "lseek", FD: fd})
	c.OK(Op{Do: "read", FD: fd, Size: 4})
	listing := c.OK(Op{Do: "open", Path: filepath.Dir(path)}).FD
	c.OK(Op{Do: "getdents", FD: listing, Size: 100})
	echo(c, s.module("delete_cache"), "odd")
	if r := c.OK(Op{Do: "read", FD: fd, Size: 2}); string(r.Data) != "56" {
		t.Errorf("goes on with %q; want 56", r.Data)
	}
	if r := c.OK(Op{Do: "read", FD: fd, Size: 100}); string(r.Data) != "7890\n" {
		t.Errorf("ends with %q; want 7890", r.Data)
	}
	c.Want(unix.ENODEV, Op{Do: "read", FD: fd, Size: 100})
	c.Want(unix.ENODEV, Op{Do: "pread", FD: fd, Size: 100, Off: 4})
	c.Want(unix.ENODEV, Op{Do: "write", FD: rw, Data: []byte("1")})
	if rest := c.OK(Op{Do: "getdents", FD: listing, Size: 4096}).Entries; len(rest) != 0 {
		t.Errorf("the rest of the directory lists %v; want nothing", rest)
	}
	echo(c, s.module("new_cache"), "odd 100")
	c.Want(unix.ENODEV, Op{Do: "pread", FD: fd, Size: 100})
	if got := cat(c, path); got == "1234567890\n" {
		t.Error("a new cache has the old one's tuning")
	}
}
