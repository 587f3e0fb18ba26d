package slabattr

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"runtime"

	"slabfs/alloc"
	"slabfs/sysfs"
)

// Modes of a cache's files. Only the owner can read them, as in the kernel.
const (
	readOnly  = 0o400
	readWrite = 0o600
)

// cacheAttrs are the files of a cache, in the order of Linux 6.18.
// docs/abi/slab.md says what each of them means.
var cacheAttrs = []*sysfs.Attribute{
	constant("slab_size", func(s *alloc.CacheStats) int { return s.Size }),
	constant("object_size", func(s *alloc.CacheStats) int { return s.ObjectSize }),
	constant("objs_per_slab", func(s *alloc.CacheStats) int { return s.ObjectsPerSlab }),
	constant("order", func(s *alloc.CacheStats) int { return s.Order }),
	{
		Name: "sheaf_capacity", Mode: readWrite,
		Show: show(func(c *alloc.Cache, w *bytes.Buffer) { fmt.Fprintln(w, c.SheafCapacity()) }),
		Store: storeUint(32, func(ctx context.Context, c *alloc.Cache, n uint64) error {
			return c.SetSheafCapacityContext(ctx, uint(n))
		}),
	},
	{
		Name: "min_partial", Mode: readWrite,
		Show:  show(func(c *alloc.Cache, w *bytes.Buffer) { fmt.Fprintln(w, c.MinPartial()) }),
		Store: storeUint(64, func(_ context.Context, c *alloc.Cache, n uint64) error { c.SetMinPartial(n); return nil }),
	},
	{
		Name: "cpu_partial", Mode: readWrite,
		Show: show(func(c *alloc.Cache, w *bytes.Buffer) { fmt.Fprintln(w, c.CPUPartial()) }),
		Store: storeUint(32, func(ctx context.Context, c *alloc.Cache, n uint64) error {
			return c.SetCPUPartialContext(ctx, uint(n))
		}),
	},
	perNode("objects_partial", func(n *alloc.NodeStats) int { return n.ObjectsPartial }),
	perNode("partial", func(n *alloc.NodeStats) int { return n.Partial }),
	perNode("cpu_slabs", func(n *alloc.NodeStats) int { return n.CPUSlabs }),
	{Name: "ctor", Mode: readOnly, Show: show(showCtor)},
	constant("aliases", func(s *alloc.CacheStats) int { return s.Aliases }),
	constant("align", func(s *alloc.CacheStats) int { return s.Align }),
	flag("hwcache_align", alloc.HWCacheAlign),
	flag("reclaim_account", alloc.ReclaimAccount),
	flag("destroy_by_rcu", alloc.TypesafeByRCU),
	{
		Name: "shrink", Mode: readWrite,
		Show: show(func(*alloc.Cache, *bytes.Buffer) {}),
		Store: store(func(ctx context.Context, c *alloc.Cache, data []byte) error {
			if !bytes.HasPrefix(data, []byte("1")) {
				return fmt.Errorf("store %q in shrink, which takes a 1: %w", data, sysfs.ErrInvalid)
			}
			return c.ShrinkContext(ctx)
		}),
	},
	{Name: "slabs_cpu_partial", Mode: readOnly, Show: show(showCPUPartial)},
	perNode("total_objects", func(n *alloc.NodeStats) int { return n.TotalObjects }),
	perNode("objects", func(n *alloc.NodeStats) int { return n.Objects }),
	perNode("slabs", func(n *alloc.NodeStats) int { return n.Slabs }),
	zero("sanity_checks"),
	zero("trace"),
	zero("red_zone"),
	zero("poison"),
	zero("store_user"),
	{
		Name: "validate", Mode: readWrite,
		Show: show(func(*alloc.Cache, *bytes.Buffer) {}),
		Store: store(func(_ context.Context, _ *alloc.Cache, data []byte) error {
			return fmt.Errorf("store %q in validate of a cache without debugging (build with -tags slabfs_invariants): %w", data, sysfs.ErrInvalid)
		}),
	},
	zero("cache_dma"),
	{
		Name: "remote_node_defrag_ratio", Mode: readWrite,
		Show: show(func(c *alloc.Cache, w *bytes.Buffer) { fmt.Fprintln(w, c.RemoteNodeDefragRatio()) }),
		Store: storeUint(32, func(_ context.Context, c *alloc.Cache, n uint64) error {
			if n > 100 {
				return fmt.Errorf("a ratio of %d percent: %w", n, sysfs.ErrRange)
			}
			return c.SetRemoteNodeDefragRatio(uint(n))
		}),
	},

	noStat("alloc_cpu_sheaf"),
	stat(alloc.AllocFastpath),
	stat(alloc.AllocSlowpath),
	noStat("free_cpu_sheaf"),
	noStat("free_rcu_sheaf"),
	noStat("free_rcu_sheaf_fail"),
	stat(alloc.FreeFastpath),
	stat(alloc.FreeSlowpath),
	stat(alloc.FreeFrozen),
	stat(alloc.FreeAddPartial),
	stat(alloc.FreeRemovePartial),
	stat(alloc.AllocFromPartial),
	stat(alloc.AllocSlab),
	stat(alloc.AllocRefill),
	noStat("alloc_node_mismatch"),
	stat(alloc.FreeSlab),
	stat(alloc.CPUSlabFlush),
	noStat("deactivate_full"),
	stat(alloc.DeactivateEmpty),
	noStat("deactivate_to_head"),
	stat(alloc.DeactivateToTail),
	noStat("deactivate_remote_frees"),
	stat(alloc.DeactivateBypass),
	noStat("order_fallback"),
	noStat("cmpxchg_double_fail"),
	noStat("cmpxchg_double_cpu_fail"),
	stat(alloc.CPUPartialAlloc),
	stat(alloc.CPUPartialFree),
	stat(alloc.CPUPartialNode),
	stat(alloc.CPUPartialDrain),
	stat(alloc.SheafFlush),
	stat(alloc.SheafRefill),
	stat(alloc.SheafAlloc),
	noStat("sheaf_free"),
	stat(alloc.BarnGet),
	stat(alloc.BarnGetFail),
	stat(alloc.BarnPut),
	stat(alloc.BarnPutFail),
	noStat("sheaf_prefill_fast"),
	noStat("sheaf_prefill_slow"),
	noStat("sheaf_prefill_oversize"),
	noStat("sheaf_return_fast"),
	noStat("sheaf_return_slow"),

	constant("usersize", func(s *alloc.CacheStats) int { return s.UserSize }),
}

// show makes a Show from a function that writes a cache's content. Removal must
// ensure that a Show never sees a released cache. CheckReleased counts it if
// one does.
func show(write func(c *alloc.Cache, w *bytes.Buffer)) func(context.Context, any, *bytes.Buffer) error {
	return func(_ context.Context, obj any, w *bytes.Buffer) error {
		c := obj.(*alloc.Cache)
		defer c.CheckReleased()
		write(c, w)
		return nil
	}
}

// store makes a Store from a function, like show. It adds the errno to errors
// of the allocator, so that no Store of a cache has to.
func store(take func(ctx context.Context, c *alloc.Cache, data []byte) error) func(context.Context, any, []byte) error {
	return func(ctx context.Context, obj any, data []byte) error {
		c := obj.(*alloc.Cache)
		defer c.CheckReleased()
		return errno(take(ctx, c, data))
	}
}

// storeUint makes a Store that takes a decimal number of at most width bits.
func storeUint(width int, set func(ctx context.Context, c *alloc.Cache, n uint64) error) func(context.Context, any, []byte) error {
	return store(func(ctx context.Context, c *alloc.Cache, data []byte) error {
		n, err := sysfs.ParseUint(data, width)
		if err != nil {
			return err
		}
		return set(ctx, c, n)
	})
}

// constant makes a file with one number.
func constant(name string, get func(*alloc.CacheStats) int) *sysfs.Attribute {
	return &sysfs.Attribute{Name: name, Mode: readOnly, Show: show(func(c *alloc.Cache, w *bytes.Buffer) {
		s := c.Stats()
		fmt.Fprintln(w, get(&s))
	})}
}

// flag makes a file with 0 or 1.
func flag(name string, f alloc.Flags) *sysfs.Attribute {
	return constant(name, func(s *alloc.CacheStats) int {
		if s.Flags&f != 0 {
			return 1
		}
		return 0
	})
}

// zero makes a file for a flag that no cache has.
func zero(name string) *sysfs.Attribute {
	return constant(name, func(*alloc.CacheStats) int { return 0 })
}

// stat makes a file of SLUB_STATS: the sum, and each CPU whose count is not 0.
// Writing 0 clears the counts.
func stat(e alloc.Event) *sysfs.Attribute {
	return statFile(e.String(), func(c *alloc.Cache) []uint64 { return c.Events(e) },
		func(ctx context.Context, c *alloc.Cache) error { return c.ClearEvents(ctx, e) })
}

// noStat makes a file of SLUB_STATS for an event that never happens here.
func noStat(name string) *sysfs.Attribute {
	return statFile(name, func(*alloc.Cache) []uint64 { return nil }, func(context.Context, *alloc.Cache) error { return nil })
}

func statFile(name string, counts func(*alloc.Cache) []uint64, clear func(context.Context, *alloc.Cache) error) *sysfs.Attribute {
	return &sysfs.Attribute{
		Name: name, Mode: readWrite,
		Show: show(func(c *alloc.Cache, w *bytes.Buffer) { fmt.Fprintln(w, perCPU(counts(c))) }),
		Store: store(func(ctx context.Context, c *alloc.Cache, data []byte) error {
			if !bytes.HasPrefix(data, []byte("0")) {
				return fmt.Errorf("store %q in %s, which takes a 0: %w", data, name, sysfs.ErrInvalid)
			}
			return clear(ctx, c)
		}),
	}
}

// perNode makes a file with a total, and the share of each node whose share is
// not 0: "2223 N0=2223", or "0".
func perNode(name string, get func(*alloc.NodeStats) int) *sysfs.Attribute {
	return &sysfs.Attribute{Name: name, Mode: readOnly, Show: show(func(c *alloc.Cache, w *bytes.Buffer) {
		nodes := c.Stats().Nodes
		total := 0
		for i := range nodes {
			total += get(&nodes[i])
		}
		fmt.Fprint(w, total)
		for i := range nodes {
			if n := get(&nodes[i]); n != 0 {
				fmt.Fprintf(w, " N%d=%d", nodes[i].Node, n)
			}
		}
		fmt.Fprintln(w)
	})}
}

// showCPUPartial writes free objects and slabs: "96(3) C0=32(1) C1=64(2)". Free
// objects are a guess, half of the slabs' capacity, as in the kernel since
// 5.16.
func showCPUPartial(c *alloc.Cache, w *bytes.Buffer) {
	s := c.Stats()
	guess := func(slabs int) int { return slabs * s.ObjectsPerSlab / 2 }
	fmt.Fprintf(w, "%d(%d)", guess(s.CPUPartial), s.CPUPartial)
	for _, cpu := range s.CPUs {
		if cpu.CPUPartial > 0 {
			fmt.Fprintf(w, " C%d=%d(%d)", cpu.CPU, guess(cpu.CPUPartial), cpu.CPUPartial)
		}
	}
	fmt.Fprintln(w)
}

// showCtor writes the constructor in the kernel's format of a symbol,
// "main.initRequest+0x0/0x40", or nothing.
func showCtor(c *alloc.Cache, w *bytes.Buffer) {
	ctor := c.Stats().Ctor
	if ctor == nil {
		return
	}
	entry := reflect.ValueOf(ctor).Pointer()
	size := uintptr(1)
	for f := runtime.FuncForPC(entry); runtime.FuncForPC(entry+size) == f; {
		size++
	}
	fmt.Fprintf(w, "%s+0x0/%#x\n", runtime.FuncForPC(entry).Name(), size)
}
