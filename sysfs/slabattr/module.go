package slabattr

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"slabfs/alloc"
	"slabfs/sysfs"
)

// moduleAttrs are the files of sys/module/slabfs.
var moduleAttrs = []*sysfs.Attribute{
	parameter("version", func(*alloc.Allocator) any { return Version }),
	{Name: "new_cache", Mode: 0o200, Store: func(_ context.Context, obj any, data []byte) error {
		name, size, o, err := parseCache(text(data))
		if err == nil {
			_, err = obj.(*alloc.Allocator).NewCache(name, size, o)
		}
		return errno(err)
	}},
	{Name: "delete_cache", Mode: 0o200, Store: func(_ context.Context, obj any, data []byte) error {
		return errno(obj.(*alloc.Allocator).DestroyName(text(data)))
	}},
}

// parameterAttrs are the files of sys/module/slabfs/parameters. Sizes are in
// bytes.
var parameterAttrs = []*sysfs.Attribute{
	parameter("percpu_engine", func(a *alloc.Allocator) any { return a.Engine() }),
	parameter("percpu_aborts", func(a *alloc.Allocator) any { return perCPU(a.Aborts()) }),
	parameter("percpu_unregistered", func(a *alloc.Allocator) any { return a.Unregistered() }),
	parameter("memory_used", func(a *alloc.Allocator) any { return a.MemoryUsed() }),
	parameter("memory_large", func(a *alloc.Allocator) any { return a.MemoryLarge() }),
	parameter("memory_waiting", func(a *alloc.Allocator) any { return a.MemoryWaiting() }),
	parameter("memory_mapped", func(a *alloc.Allocator) any { return a.MemoryMapped() }),
	parameter("memory_returns", func(a *alloc.Allocator) any { return a.MemoryReturns() }),
	parameter("memory_refused", func(a *alloc.Allocator) any { return a.MemoryRefused() }),
	parameter("damage", func(a *alloc.Allocator) any { return a.Damage() }),
	parameter("cached_bytes", func(a *alloc.Allocator) any { return a.CachedBytes() }),
	parameter("sheaf_bytes", func(a *alloc.Allocator) any { return a.SheafBytes() }),
	parameter("barn_bytes", func(a *alloc.Allocator) any { return a.BarnBytes() }),
	parameter("cpu_slab_bytes", func(a *alloc.Allocator) any { return a.CPUSlabBytes() }),
	parameter("percpu_bytes", func(a *alloc.Allocator) any { return a.PerCPUBytes() }),
	parameter("metadata_bytes", func(a *alloc.Allocator) any { return a.MetadataBytes() }),
	parameter("rcu_grace_periods", func(a *alloc.Allocator) any { return a.RCU().Stats().GracePeriods }),
	hugePages(),
	memoryLimit(),
}

func parameter(name string, get func(*alloc.Allocator) any) *sysfs.Attribute {
	return &sysfs.Attribute{Name: name, Mode: 0o444, Show: func(_ context.Context, obj any, w *bytes.Buffer) error {
		_, err := fmt.Fprintln(w, get(obj.(*alloc.Allocator)))
		return err
	}}
}

// perCPU prints counts by CPU in the format of the kernel's stat files: the
// sum, and each CPU whose count is not 0.
func perCPU(counts []uint64) string {
	sum, parts := uint64(0), ""
	for n, count := range counts {
		sum += count
		if count > 0 {
			parts += fmt.Sprintf(" C%d=%d", n, count)
		}
	}
	return fmt.Sprint(sum) + parts
}

// memoryLimit is a writable parameter, in bytes: 0 means no limit.
func memoryLimit() *sysfs.Attribute {
	p := parameter("memory_limit", func(a *alloc.Allocator) any { return a.MemoryLimit() })
	p.Mode = 0o644
	p.Store = func(_ context.Context, obj any, data []byte) error {
		n, err := sysfs.ParseBytes(data, 63)
		if err != nil {
			return err
		}
		obj.(*alloc.Allocator).SetMemoryLimit(int64(n))
		return nil
	}
	return p
}

// hugePages is a writable parameter: whether to ask the system for huge pages.
func hugePages() *sysfs.Attribute {
	p := parameter("huge_pages", func(a *alloc.Allocator) any { return a.HugePages() })
	p.Mode = 0o644
	p.Store = func(_ context.Context, obj any, data []byte) error {
		on := text(data) == "always"
		if !on && text(data) != "never" {
			return errno(fmt.Errorf("set huge_pages to %q: want always or never: %w", text(data), alloc.ErrInvalid))
		}
		return errno(obj.(*alloc.Allocator).SetHugePages(on))
	}
	return p
}

// text returns what a shell wrote, without the newline that echo adds. As in
// the kernel, it ends at the first NUL.
func text(data []byte) string {
	data, _, _ = bytes.Cut(data, []byte{0})
	return string(bytes.TrimSuffix(data, []byte("\n")))
}

var flagNames = map[string]alloc.Flags{
	"hwcache_align":   alloc.HWCacheAlign,
	"reclaim_account": alloc.ReclaimAccount,
	"typesafe_by_rcu": alloc.TypesafeByRCU,
	"no_merge":        alloc.NoMerge,
}

// blank reports whether r separates words in new_cache. Other blanks of Unicode
// do not: they would be part of a word, and no word may contain them.
func blank(r rune) bool { return r == ' ' || r == '\t' }

// parseCache reads what new_cache accepts: NAME SIZE [align=N] [flags=a,b].
func parseCache(s string) (name string, size int, o alloc.CacheOptions, err error) {
	bad := func(what string) (string, int, alloc.CacheOptions, error) {
		return "", 0, alloc.CacheOptions{}, fmt.Errorf("new cache %q: %s, want NAME SIZE [align=N] [flags=a,b]: %w", s, what, alloc.ErrInvalid)
	}
	if strings.ContainsAny(s, "\n\r\v\f") {
		return bad("more than one line")
	}
	fields := strings.FieldsFunc(s, blank)
	if len(fields) < 2 {
		return bad("too few words")
	}
	n, err := sysfs.ParseBytes([]byte(fields[1]), 31)
	if err != nil {
		return bad("the size is no number of bytes")
	}
	o.ShellDelete = true
	seen := make(map[string]bool)
	for _, option := range fields[2:] {
		key, value, _ := strings.Cut(option, "=")
		if seen[key] {
			return bad("an option is there twice")
		}
		seen[key] = true
		switch key {
		case "align":
			align, err := sysfs.ParseBytes([]byte(value), 31)
			if err != nil || align < 1 {
				return bad("the alignment is no number of bytes")
			}
			o.Align = int(align)
		case "flags":
			for name := range strings.SplitSeq(value, ",") {
				f, ok := flagNames[name]
				if !ok {
					return bad("unknown flag " + strconv.Quote(name))
				}
				o.Flags |= f
			}
		default:
			return bad("unknown option " + strconv.Quote(option))
		}
	}
	return fields[0], int(n), o, nil
}
