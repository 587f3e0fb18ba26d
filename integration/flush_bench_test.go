package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"slabfs/alloc"
	"slabfs/sysfs/fusefs"
	"slabfs/sysfs/slabattr"
)

// Of the role "flushed": how many goroutines allocate and free all the time, and how many
// objects each has before it frees them.
const (
	churnersEnv = "SLABFS_TEST_CHURNERS"
	depthEnv    = "SLABFS_TEST_DEPTH"
)

// beFlushed serves the files of an allocator whose cache "session" is at work
// until standard input ends.
func beFlushed() error {
	a, err := alloc.New(alloc.Options{})
	if err != nil {
		return err
	}
	c, err := a.NewCache("session", 64, alloc.CacheOptions{Flags: alloc.NoMerge})
	if err != nil {
		return err
	}
	srv, err := slabattr.Mount(os.Getenv(programDirEnv), a, fusefs.Options{})
	if err != nil {
		return err
	}
	churners, err := strconv.Atoi(os.Getenv(churnersEnv))
	if err != nil {
		return err
	}
	depth, err := strconv.Atoi(os.Getenv(depthEnv))
	if err != nil {
		return err
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range churners {
		wg.Go(func() {
			objs := make([]unsafe.Pointer, depth)
			for !stop.Load() {
				for i := range objs {
					objs[i] = c.Alloc()
				}
				for _, obj := range objs {
					c.Free(obj)
				}
			}
		})
	}
	if err := json.NewEncoder(os.Stdout).Encode("ready"); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	stop.Store(true)
	wg.Wait()
	if err := srv.Unmount(context.Background()); err != nil {
		return err
	}
	return a.Close()
}

// BenchmarkFlush is what a write to an open cpu_partial, which flushes, takes longer
// than one to min_partial, which does not; by how much the medians differ, and the
// 99th percentiles. Both alternate. Where CPUs allocate the server has a goroutine for
// each that does nothing else: with depth=1 it takes the fast path but after a
// flush; with depth=500 it holds a CPU's lock a good part of the time, and the
// kernel may preempt it then.
func BenchmarkFlush(b *testing.B) {
	needRoot(b)
	const chunk = 500 // of which the first finds the server asleep
	for _, bm := range []struct {
		name            string
		churners, depth int
	}{
		{"cpus=idle", 0, 0},
		{"cpus=allocating/depth=1", runtime.NumCPU(), 1},
		{"cpus=allocating/depth=500", runtime.NumCPU(), 500},
	} {
		b.Run(bm.name, func(b *testing.B) {
			dir := root.newDir(b, true)
			startRole(b, "flushed", dir, fmt.Sprint(churnersEnv, "=", bm.churners), fmt.Sprint(depthEnv, "=", bm.depth))
			files := []string{"cpu_partial", "min_partial"}
			took := make([][]time.Duration, len(files))
			attr := func(name string) string { return dir + "/sys/kernel/slab/session/" + name }
			b.ResetTimer()
			for done := 0; done < max(b.N, chunk); done += chunk {
				for i, file := range files {
					took[i] = append(took[i], measure(b, job{"pwrite", attr(file), chunk})...)
				}
			}
			b.ReportMetric(0, "ns/op") // what the child measured counts
			for i, file := range files {
				slices.Sort(took[i])
				b.ReportMetric(float64(percentile(took[i], 50)), file+"-median-ns")
				b.ReportMetric(float64(percentile(took[i], 99)), file+"-p99-ns")
			}
			for _, p := range []int{50, 99} {
				b.ReportMetric(float64(percentile(took[0], p)-percentile(took[1], p)), fmt.Sprintf("p%d-diff-ns", p))
			}
		})
	}
}
