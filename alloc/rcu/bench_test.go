package rcu_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"slabfs/alloc"
	"slabfs/alloc/rcu"
)

// BenchmarkSection is a read-side section on each engine, alone and in units of the Alloc
// and Free of an object on this process's engine. Runs of both of some 10 us alternate;
// an iteration is one of each, the ratio is that of the medians.
func BenchmarkSection(b *testing.B) {
	const calls = 1000 // in a run
	for _, sequences := range []bool{true, false} {
		name := map[bool]string{true: "rseq", false: "atomics"}[sequences]
		b.Run(name, func(b *testing.B) {
			d, err := rcu.New(rcu.Options{Sequences: sequences})
			if err != nil {
				b.Skip(err)
			}
			a, err := alloc.New(alloc.Options{})
			if err != nil {
				b.Fatal(err)
			}
			c, err := a.NewCache("pair", 64, alloc.CacheOptions{})
			if err != nil {
				b.Fatal(err)
			}
			var sections, pairs []time.Duration
			for b.Loop() {
				start := time.Now()
				for range calls {
					d.ReadUnlock(d.ReadLock())
				}
				middle := time.Now()
				for range calls {
					c.Free(c.Alloc())
				}
				sections, pairs = append(sections, middle.Sub(start)), append(pairs, time.Since(middle))
			}
			slices.Sort(sections)
			slices.Sort(pairs)
			section, pair := sections[len(sections)/2], pairs[len(pairs)/2]
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(section)/calls, "ns/section")
			b.ReportMetric(float64(pair)/calls, "ns/pair")
			b.ReportMetric(float64(section)/float64(pair), "ratio")
			if err := errors.Join(d.Close(), a.Close()); err != nil {
				b.Error(err)
			}
		})
	}
}

// A grace period without readers, alone and with others that share it.
func BenchmarkSynchronize(b *testing.B) {
	for _, sequences := range []bool{true, false} {
		name := map[bool]string{true: "rseq", false: "atomics"}[sequences]
		d, err := rcu.New(rcu.Options{Sequences: sequences})
		if err != nil {
			b.Skip(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := d.Synchronize(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/Call", func(b *testing.B) {
			before := d.Stats().GracePeriods
			for b.Loop() {
				d.Call(func() {})
			}
			if err := d.Barrier(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/float64(d.Stats().GracePeriods-before), "calls/grace-period")
		})
		if err := d.Close(); err != nil {
			b.Error(err)
		}
	}
}
