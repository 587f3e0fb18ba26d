package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// growFloor touches fresh huge pages, or small pages if the system has no huge
// ones.
func growFloor(c *Config) (*cell, error) {
	size := min(growBytes, c.Objects*growSize)
	return &cell{n: size / growSize, measure: func(time.Duration) ([]float64, error) {
		mem, err := unix.Mmap(-1, 0, size+2<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
		if err != nil {
			return nil, err
		}
		_ = unix.Madvise(mem, unix.MADV_HUGEPAGE) // if it fails, pages are small
		used := mem[alignment(mem, 2<<20):][:size]
		t := stopwatch(func() {
			for i := 0; i < len(used); i += growSize {
				used[i] = 1
			}
		})
		return []float64{float64(t) / float64(size) * 4096}, unix.Munmap(mem)
	}}, nil
}
