package integration

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"slabfs/alloc"
	"slabfs/internal/testclient"
	"slabfs/sysfs/fusefs"
	"slabfs/sysfs/slabattr"
)

// fillBytes is how much memory the role "fill" wants in the end.
const fillBytes = 8 << 20

// beFilling allocates on all CPUs, whatever the limit says, until it has
// fillBytes; at the limit it tries again. It frees all when its standard input ends.
func beFilling() error {
	a, err := alloc.New(alloc.Options{MemoryLimit: 1 << 20})
	if err != nil {
		return err
	}
	c, err := a.NewCache("fill", 1024, alloc.CacheOptions{Flags: alloc.NoMerge})
	if err != nil {
		return err
	}
	srv, err := slabattr.Mount(os.Getenv(programDirEnv), a, fusefs.Options{})
	if err != nil {
		return err
	}
	fmt.Println(`"ready"`)
	var wg sync.WaitGroup
	got := make([][]unsafe.Pointer, runtime.GOMAXPROCS(0)+1)
	for i := range got {
		wg.Go(func() {
			for len(got[i]) < fillBytes/1024/len(got) {
				if obj := c.Alloc(); obj != nil {
					got[i] = append(got[i], obj)
				} else {
					time.Sleep(100 * time.Microsecond)
				}
			}
		})
	}
	wg.Wait()
	fmt.Println(`"full"`)
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	if err := srv.Unmount(context.Background()); err != nil {
		return err
	}
	for _, objs := range got {
		for _, obj := range objs {
			c.Free(obj)
		}
	}
	return a.Close()
}

// A write to memory_limit takes effect at once on those who fill their caches:
// more is handed out at once, never more than it allows, and nothing new while
// it allows less than is in use.
func TestLimitWhileFilling(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, engine := range []string{"", "lock"} {
		t.Run("SLABFS_PERCPU="+engine, func(t *testing.T) {
			t.Parallel()
			dir := root.newDir(t, true)
			p := startRole(t, "fill", dir, "SLABFS_PERCPU="+engine)
			c := testclient.Start(t, testclient.Options{})
			file := func(name string) string { return dir + "/sys/module/slabfs/parameters/" + name }
			used := func() int {
				n, err := strconv.Atoi(strings.TrimSpace(cat(c, file("memory_used"))))
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			limit := 1 << 20
			fill := func() {
				t.Helper()
				for n := used(); n < limit; n = used() {
					runtime.Gosched()
				}
				for range 50 {
					if n := used(); n != limit {
						t.Fatalf("%d bytes in use; want the limit of %d", n, limit)
					}
				}
			}
			fill()
			for limit < fillBytes/2 {
				limit += 256 << 10
				echo(c, file("memory_limit"), strconv.Itoa(limit))
				fill()
			}
			echo(c, file("memory_limit"), "4096")
			for range 50 {
				if n := used(); n != limit {
					t.Fatalf("%d bytes in use after the limit was lowered; want the %d that were", n, limit)
				}
			}
			echo(c, file("memory_limit"), "0")
			var full string
			p.receive(&full)
			if n := used(); n < fillBytes*9/10 {
				t.Errorf("%d bytes in use without a limit; want %d", n, fillBytes)
			}
		})
	}
}
