package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/alloc"
	"slabfs/sysfs/fusefs"
	"slabfs/sysfs/slabattr"
)

const (
	readCaches = 500 // that the role "churn" has
	allocators = 2   // goroutines that allocate
	batch      = 32  // objects that one takes and gives back
	readEvery  = 2 * time.Second
	ownCaches  = 8   // that one goroutine uses
	rounds     = 100 // between looks at whether a sample is wanted
)

// A sample is what the allocating threads have done so far.
type sample struct {
	Pairs uint64        // objects taken and given back
	CPU   time.Duration // that the threads used
}

// beChurning makes caches, serves their files, and allocates on two threads.
// For each line on its standard input it says what these threads have done; it
// ends with the input.
func beChurning() error {
	a, err := alloc.New(alloc.Options{})
	if err != nil {
		return err
	}
	var caches []*alloc.Cache
	for i := range readCaches {
		c, err := a.NewCache(fmt.Sprintf("cache-%03d", i), 64, alloc.CacheOptions{Flags: alloc.NoMerge})
		if err != nil {
			return err
		}
		caches = append(caches, c)
	}
	srv, err := slabattr.Mount(os.Getenv(programDirEnv), a, fusefs.Options{})
	if err != nil {
		return err
	}
	var (
		end     atomic.Bool
		asked   atomic.Int64 // how many samples
		samples = make(chan sample, allocators)
		running sync.WaitGroup
	)
	for g := range allocators {
		running.Go(func() {
			allocate(caches[g*ownCaches:][:ownCaches], &end, &asked, samples)
		})
	}
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		asked.Add(1)
		var sum sample
		for range allocators {
			s := <-samples
			sum.Pairs += s.Pairs
			sum.CPU += s.CPU
		}
		if err := out.Encode(sum); err != nil {
			return err
		}
	}
	end.Store(true)
	running.Wait()
	return errors.Join(srv.Unmount(context.Background()), a.Close())
}

// allocate takes and gives back objects until the end, and sends a sample
// whenever one more is asked for.
func allocate(caches []*alloc.Cache, end *atomic.Bool, asked *atomic.Int64, samples chan<- sample) {
	runtime.LockOSThread() // the thread's CPU time is ours
	var (
		objs    [batch]unsafe.Pointer
		done    sample
		answers int64
	)
	for !end.Load() {
		for range rounds {
			for _, c := range caches {
				for i := range objs {
					objs[i] = c.Alloc()
				}
				for _, obj := range objs {
					c.Free(obj)
				}
			}
		}
		done.Pairs += rounds * uint64(len(caches)) * batch
		if n := asked.Load(); n != answers {
			answers = n
			var ru unix.Rusage
			if err := unix.Getrusage(unix.RUSAGE_THREAD, &ru); err != nil {
				panic(err)
			}
			done.CPU = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
			samples <- done
		}
	}
}

// BenchmarkReadingAll is what it costs those who allocate that somebody reads
// every file of 500 caches, every two seconds: allocations per second of their
// CPU time, with and without, in turn. The metric is the median of their ratios,
// for which -benchtime 10x gives enough of them.
func BenchmarkReadingAll(b *testing.B) {
	needRoot(b)
	dir := root.newDir(b, true)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=churn", programDirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	answers := json.NewDecoder(out)
	ask := func() (s sample) {
		if _, err := in.Write([]byte("\n")); err != nil {
			b.Fatal(err)
		}
		if err := answers.Decode(&s); err != nil {
			b.Fatal(err)
		}
		return s
	}
	ask()
	c := root.client(b)
	slab := filepath.Join(dir, "sys/kernel/slab")
	files := c.OK(Op{Do: "readall", Path: slab}).N
	if files < readCaches*20 {
		b.Fatalf("%d files; want 20 for each of %d caches", files, readCaches)
	}
	b.ResetTimer()
	var ratios, took []float64
	last := ask()
	slice := func(do func()) (rate float64) { // of two seconds
		start := time.Now()
		do()
		took = append(took, time.Since(start).Seconds())
		time.Sleep(readEvery - time.Since(start))
		now := ask()
		rate = float64(now.Pairs-last.Pairs) / (now.CPU - last.CPU).Seconds()
		last = now
		return rate
	}
	for range b.N {
		unread := slice(func() {})
		read := slice(func() { c.OK(Op{Do: "readall", Path: slab}) })
		ratios = append(ratios, read/unread)
		b.Logf("unread %.1f million pairs a CPU second, read %.1f, by %d files in %.2f s", unread/1e6, read/1e6, files, took[len(took)-1])
	}
	slices.Sort(ratios)
	b.ReportMetric(0, "ns/op") // it takes the time that it is given
	b.ReportMetric((ratios[(len(ratios)-1)/2]+ratios[len(ratios)/2])/2, "ratio")
	b.ReportMetric(slices.Max(took), "reading-s")
}
