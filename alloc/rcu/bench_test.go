package rcu_test

import (
	"testing"

	"slabfs/alloc"
	"slabfs/alloc/rcu"
)

// A section on each engine, beside the Alloc and Free of an object on this
// process's engine.
func BenchmarkSection(b *testing.B) {
	for _, sequences := range []bool{true, false} {
		name := map[bool]string{true: "rseq", false: "atomics"}[sequences]
		b.Run(name, func(b *testing.B) {
			d, err := rcu.New(rcu.Options{Sequences: sequences})
			if err != nil {
				b.Skip(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				d.ReadUnlock(d.ReadLock())
			}
			if err := d.Close(); err != nil {
				b.Error(err)
			}
		})
	}
	b.Run("pair", func(b *testing.B) {
		a, err := alloc.New(alloc.Options{})
		if err != nil {
			b.Fatal(err)
		}
		c, err := a.NewCache("pair", 64, alloc.CacheOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			c.Free(c.Alloc())
		}
		if err := a.Close(); err != nil {
			b.Error(err)
		}
	})
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
