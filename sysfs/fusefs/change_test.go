package fusefs

import (
	"fmt"
	"testing"

	"slabfs/internal/testclient"
)

// What stat shows of a directory is what is in it, however short ago that changed
// and whatever the kernel has in its cache.
func TestChangesAreSeenAtOnce(t *testing.T) {
	x := newFixture()
	s, other := serve(t, x.tree, Options{}), serve(t, x.tree, Options{})
	c := testclient.Start(t, testclient.Options{})
	links := func(s *Server, want uint64, when string) {
		t.Helper()
		if got := c.OK(Op{Do: "stat", Path: s.at("cache")}).Stat.Nlink; got != want {
			t.Errorf("%s: nlink = %d; want %d", when, got, want)
		}
	}
	for i := range 3 {
		links(s, 2, "at first")
		links(other, 2, "at first")
		k, err := x.cache.Add(fmt.Sprint("inner", i), nil)
		if err != nil {
			t.Fatal(err)
		}
		links(s, 3, "with a directory")
		links(other, 3, "with a directory, elsewhere")
		k.Remove() // which the kernel has never heard of
	}
	mtime := func() int64 { return c.OK(Op{Do: "stat", Path: s.at("cache")}).Stat.Mtime.Unix() }
	c.OK(Op{Do: "utimes", Path: s.at("cache"), Off: 1})
	if got := mtime(); got != 1 {
		t.Errorf("mtime = %d; want 1", got)
	}
	if _, err := x.cache.Link("link", x.cache); err != nil {
		t.Fatal(err)
	}
	if got := mtime(); got == 1 {
		t.Error("a link did not change the time of its directory")
	}
	mode := func(s *Server) uint32 { return c.OK(Op{Do: "stat", Path: s.at("cache", "value")}).Stat.Mode & 0o777 }
	if mode(s) != 0o600 || mode(other) != 0o600 {
		t.Errorf("modes %#o, %#o; want 0600", mode(s), mode(other))
	}
	c.OK(Op{Do: "chmod", Path: s.at("cache", "value"), Mode: 0o640})
	if mode(s) != 0o640 || mode(other) != 0o640 {
		t.Errorf("after chmod: modes %#o, %#o; want 0640 on both mounts", mode(s), mode(other))
	}
}

// A change may come while the answer to the first lookup of its directory is on its
// way to the kernel.
func TestChangeOvertakesLookup(t *testing.T) {
	x := newFixture()
	s := serve(t, x.tree, Options{})
	clients := make([]*testclient.Client, 4) // the others keep the processors busy
	for i := range clients {
		clients[i] = testclient.Start(t, testclient.Options{})
	}
	for i := range 500 {
		name := fmt.Sprint("dir", i)
		k, err := x.tree.Root().Add(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		var looks []*testclient.Pending
		for _, c := range clients {
			looks = append(looks, c.Go(Op{Do: "stat", Path: s.at(name)}))
		}
		if _, err := k.Add("inner", nil); err != nil {
			t.Fatal(err)
		}
		for _, l := range looks {
			l.Wait()
		}
		if got := clients[0].OK(Op{Do: "stat", Path: s.at(name)}).Stat.Nlink; got != 3 {
			t.Fatalf("round %d: nlink = %d; want 3", i, got)
		}
		k.Remove()
	}
}
