package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slabfs/alloc"
)

// mountOptions are the flags of slabfs mount.
type mountOptions struct {
	caches      []string
	load        bool
	noMerge     bool
	lockdep     bool
	memoryLimit byteSize
	daemon      bool
	options     []string
	logFile     string
	debug       bool
}

func newMountCommand() *cobra.Command {
	var o mountOptions
	c := &cobra.Command{
		Use:   "mount [flags] DIR",
		Short: "serve the files of an allocator on DIR",
		Long: `mount creates an allocator and serves its files on DIR until SIGINT, SIGTERM or
SIGHUP. If DIR is missing, mount creates it, and removes it at the end.

Caches of one size share their slabs, as in Linux. They have one directory, named
by an id such as :0000192, and each name is a link to it. With --no-merge, each cache
has a directory of its own, as with the flag no_merge.

If the mount is in use at the end, mount waits for at most 5 seconds and then
detaches it. A second signal, at least a second later, ends at once. SIGQUIT and
SIGABRT detach the mount and print the stacks of all goroutines. A stale mount that
a killed server left on DIR is cleaned first.

Exit status: 0 success, also if somebody else unmounts; 1 usage; 2 mounting
failed, or a live slabfs is there, or SIGQUIT or SIGABRT arrived; 3 a stale mount
could not be cleaned; 4 the connection was aborted; 5 locks were taken in the wrong
order (--lockdep).

mount(8) and fstab can do the same with type fuse.slabfs. Long flags are mount
options there: slabfs /run/slabfs fuse.slabfs load,cache=req:200 0 0`,
		Example: `  slabfs mount --load ./mnt
  slabfs mount --cache req:200 --cache conn:1000:hwcache_align,no_merge ./mnt
  slabfs mount --daemon --log-file /var/log/slabfs.log -o allow_other /run/slabfs`,
		Args: oneDir,
		RunE: func(_ *cobra.Command, args []string) error {
			if o.daemon && !inBackground() {
				return startBackground(os.Stdout)
			}
			return serve(args[0], &o)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.caches, "cache", nil, "create a cache, `NAME:SIZE[:FLAG,...]`; FLAG is hwcache_align, reclaim_account, typesafe_by_rcu or no_merge (repeatable)")
	f.BoolVar(&o.load, "load", false, "run a small allocation load, so that the figures change")
	f.BoolVar(&o.noMerge, "no-merge", false, "give each cache its own slabs and directory")
	f.BoolVar(&o.lockdep, "lockdep", false, "check the order of locks while serving (see proc/lockdep*); violations are logged, and the exit status is then 5")
	f.Var(&o.memoryLimit, "memory-limit", "bytes that slabs may take, such as 64M; 0 means no limit")
	f.BoolVar(&o.daemon, "daemon", false, "return when it is mounted, and serve from a background process")
	f.StringSliceVarP(&o.options, "options", "o", nil, "mount options, such as ro or allow_other; comma-separated")
	f.StringVar(&o.logFile, "log-file", "", "append the log to `FILE` instead of standard error; without it, a daemon has no log once it is mounted")
	f.BoolVar(&o.debug, "debug", false, "log every request")
	return c
}

var cacheFlags = map[string]alloc.Flags{
	"hwcache_align":   alloc.HWCacheAlign,
	"reclaim_account": alloc.ReclaimAccount,
	"typesafe_by_rcu": alloc.TypesafeByRCU,
	"no_merge":        alloc.NoMerge,
}

// newCache makes the cache that NAME:SIZE[:FLAG,...] describes, as new_cache
// would.
func newCache(a *alloc.Allocator, spec string) error {
	name, rest, _ := strings.Cut(spec, ":")
	size, flags, hasFlags := strings.Cut(rest, ":")
	n, err := parseBytes(size)
	if err != nil {
		return fmt.Errorf("--cache %q: want NAME:SIZE[:FLAG,...], SIZE in bytes, such as 200 or 4K", spec)
	}
	o := alloc.CacheOptions{ShellDelete: true}
	if hasFlags {
		for flag := range strings.SplitSeq(flags, ",") {
			f, ok := cacheFlags[flag]
			if !ok {
				return fmt.Errorf("--cache %q: unknown flag %q; want one of %q", spec, flag, slices.Sorted(maps.Keys(cacheFlags)))
			}
			o.Flags |= f
		}
	}
	if _, err := a.NewCache(name, int(n), o); err != nil {
		return fmt.Errorf("--cache %q: %w", spec, err)
	}
	return nil
}
