package slabattr

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"slabfs/alloc"
	"slabfs/internal/testclient"
	"slabfs/sysfs/fusefs"
)

// What a cache takes that nobody uses, on two possible CPUs, and what each further one
// adds, in live bytes. Twice as much may be resident: docs/scaling.md.
const (
	atRest   = 3 << 10
	lookedAt = 6 << 10
	eachCPU  = 700
)

// resident returns the bytes of memory that the process has touched, as far as it is
// ours: Go memory and arenas.
func resident(a *alloc.Allocator) int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one has swept
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc+m.StackInuse) + a.MemoryMapped() + a.MetadataBytes()
}

// Thousands of caches are cheap until they are used, and cheap when somebody has
// looked at all of their files.
func TestMemoryOfCaches(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	const caches = 1000
	a, err := alloc.New(alloc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	srv, err := Mount(dir, a, fusefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := testclient.Start(t, testclient.Options{})
	c.OK(testclient.Op{Do: "walk", Path: dir}) // buffers, goroutines
	names := make([]string, caches)
	for i := range names {
		names[i] = fmt.Sprint("cache", i)
	}
	further := int64(max(a.Hotplug().Possible().Count()-2, 0)) * eachCPU
	before := resident(a)
	each := func() int64 { return (resident(a) - before) / caches }
	check := func(what string, most int64) {
		t.Helper()
		got := each()
		t.Logf("%s: %d bytes for each cache", what, got)
		if got > most+further {
			t.Errorf("%s a cache takes %d bytes; want %d at most", what, got, most+further)
		}
	}
	for _, name := range names {
		if _, err := a.NewCache(name, 64, alloc.CacheOptions{ShellDelete: true}); err != nil {
			t.Fatal(err)
		}
	}
	check("at rest", atRest)
	if n := c.OK(testclient.Op{Do: "walk", Path: dir}).N; n < caches*int64(len(cacheAttrs)) {
		t.Errorf("ls -lR has seen %d files; want %d for each of %d caches", n, len(cacheAttrs), caches)
	}
	check("after ls -lR", lookedAt)
	for _, name := range names {
		if err := a.DestroyName(name); err != nil {
			t.Error(err)
		}
	}
	// The kernel is told to forget one directory after the other.
	for end := time.Now().Add(time.Minute); each() > lookedAt-atRest && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	check("of what is gone", lookedAt-atRest)
	c.Kill()
	if err := srv.Unmount(context.Background()); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
