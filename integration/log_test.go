package integration

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A log into a pipe that nobody reads delays no client, and the server hears
// SIGTERM.
func TestLogThatNobodyReads(t *testing.T) {
	needRoot(t)
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "log")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(reader)
	s := root.mount(t, root.newDir(t, true), "--debug", "--log-file", fifo)
	c := root.client(t)
	// A pipe has 64 KiB, and a thousand lines wait behind it.
	for range 300 {
		cat(c, s.attr("kmalloc-64", "objects"))
	}
	s.signal(unix.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		t.Fatal("the server does not end")
	}
	s.wantStatus(0)
	if mounted(t, s.dir) {
		t.Error("the mount is left")
	}
	text := make([]byte, 100)
	if n, err := unix.Read(reader, text); err != nil || !strings.HasPrefix(string(text[:n]), "time=") {
		t.Errorf("the log begins with %q, %v", text[:max(n, 0)], err)
	}
}

// Standard error is such a pipe, and a client keeps the mount busy: what the server
// has to say at the end does not keep it from ending.
func TestStandardErrorThatNobodyReads(t *testing.T) {
	needRoot(t)
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	dir := root.newDir(t, true)
	server := root.command("mount", "--debug", dir)
	server.Stderr = w
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("it does not say that it is ready: %v", err)
	}
	c := root.client(t)
	file := filepath.Join(dir, "sys/kernel/slab/kmalloc-64/objects")
	for range 300 {
		cat(c, file)
	}
	c.OK(Op{Do: "open", Path: file})
	if err := server.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	select {
	case err := <-ended:
		if err != nil || mounted(t, dir) {
			t.Errorf("it ended with %v, mounted: %v; want neither", err, mounted(t, dir))
		}
	case <-time.After(time.Minute):
		_ = server.Process.Kill()
		t.Error("the server does not end")
	}
}
