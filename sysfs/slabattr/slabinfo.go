package slabattr

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"
	"slices"

	"slabfs/alloc"
	"slabfs/sysfs"
)

// slabinfoAttr is proc/slabinfo, version 2.1: one line for each cache, newest
// first. Of merged caches it shows only the oldest, so that names are unique.
var slabinfoAttr = &sysfs.Attribute{Name: "slabinfo", Mode: readOnly, Seq: true,
	Size: slabinfoSize,
	Show: func(_ context.Context, obj any, w *bytes.Buffer) error {
		w.WriteString("slabinfo - version: 2.1\n" +
			"# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>" +
			" : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n")
		seen := make(map[string]bool)
		caches := slices.DeleteFunc(obj.(*alloc.Allocator).Caches(), func(c *alloc.Cache) bool {
			again := seen[c.ID()]
			seen[c.ID()] = true
			return again
		})
		for _, c := range slices.Backward(caches) {
			s := c.Stats()
			fmt.Fprintf(w, "%-17s %6d %6d %6d %4d %4d : tunables %4d %4d %4d : slabdata %6d %6d %6d\n",
				c.Name(), s.Objects, s.TotalObjects, s.Size, s.ObjectsPerSlab, 1<<s.Order, 0, 0, 0, s.Slabs, s.Slabs, 0)
		}
		return nil
	},
}

// slabinfoSize leaves room for each line, and for lines of caches that are made
// before the file is read.
func slabinfoSize(obj any) int64 {
	const line = 320 // more than a name and 13 numbers
	return block((len(obj.(*alloc.Allocator).Caches()) + 10) * line)
}

// block returns what stat shows for a file of at most n bytes: a power of two,
// and at least a page. If a file has several blocks, wc(1) counts everything
// before the last block as content. So the whole file is one block.
func block(n int) int64 { return max(sysfs.PageSize, int64(1)<<bits.Len(uint(n))) }
