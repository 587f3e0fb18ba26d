package fusefs

import (
	"bytes"
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"slabfs/internal/testclient"
	"slabfs/sysfs"
)

// A writev is one Store, however many segments it has, as far as the kernel
// hands them over together.
func TestWritev(t *testing.T) {
	x := newFixture()
	stores := make(chan string, 10000)
	if err := x.tree.Root().AddFile(nil, &sysfs.Attribute{
		Name: "stores", Mode: 0o600,
		Show:  func(context.Context, any, *bytes.Buffer) error { return nil },
		Store: func(_ context.Context, _ any, data []byte) error { stores <- string(data); return nil },
	}); err != nil {
		t.Fatal(err)
	}
	s := serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	for _, tc := range []struct {
		flags, segments int
	}{
		{unix.O_WRONLY, 1}, {unix.O_WRONLY, 17}, {unix.O_WRONLY, 256}, {unix.O_WRONLY, 257}, {unix.O_WRONLY, 1024},
		{unix.O_WRONLY | unix.O_APPEND, 1024}, {unix.O_RDWR, 17}, {unix.O_RDWR, 256},
	} {
		fd := c.OK(Op{Do: "open", Path: s.at("stores"), Flags: tc.flags}).FD
		want := string(bytes.Repeat([]byte("x"), tc.segments-1)) + "y"
		if n := c.OK(Op{Do: "writev", FD: fd, Data: []byte(want)}).N; n != int64(len(want)) {
			t.Errorf("flags %#x: a writev of %d segments: %d bytes", tc.flags, tc.segments, n)
		}
		if got := <-stores; got != want || len(stores) > 0 {
			t.Errorf("flags %#x: a writev of %d segments: a store of %d bytes, and %d more; want one store", tc.flags, tc.segments, len(got), len(stores))
			for len(stores) > 0 {
				<-stores
			}
		}
		c.OK(Op{Do: "close", FD: fd})
	}
}
