package cpu

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"strconv"
	"strings"
)

// maxCPU bounds the numbers that ParseList accepts. Linux's NR_CPUS is at most
// 8192.
const maxCPU = 1 << 16

// ErrSyntax is wrapped by errors of ParseList.
var ErrSyntax = errors.New("not a cpulist")

// A Mask is a set of CPU numbers. The zero value is empty. Copies share their
// content, so do not change a Mask that others can see: Clone it first.
type Mask struct {
	words []uint64
}

// MaskOf returns the set of the given CPU numbers.
func MaskOf(cpus ...int) Mask {
	var m Mask
	for _, n := range cpus {
		m.Set(n)
	}
	return m
}

// ParseList reads a cpulist in the kernel's format, such as "0-3,8". An empty
// text is the empty set. Errors wrap ErrSyntax.
func ParseList(s string) (Mask, error) {
	var m Mask
	s = strings.TrimSpace(s)
	if s == "" {
		return m, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		lo, err1 := strconv.ParseUint(first, 10, 31)
		hi, err2 := strconv.ParseUint(last, 10, 31)
		if err1 != nil || err2 != nil || lo > hi || hi >= maxCPU {
			return Mask{}, fmt.Errorf("parse cpulist %q: %w", s, ErrSyntax)
		}
		for n := lo; n <= hi; n++ {
			m.Set(int(n))
		}
	}
	return m, nil
}

// String prints the set as a cpulist, in the format of
// /sys/devices/system/cpu/online.
func (m Mask) String() string {
	var b strings.Builder
	for n := 0; n < len(m.words)*64; n++ {
		if !m.Has(n) {
			continue
		}
		end := n
		for m.Has(end + 1) {
			end++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(n))
		if end > n {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(end))
		}
		n = end
	}
	return b.String()
}

// Has reports whether n is in the set.
func (m Mask) Has(n int) bool {
	return n >= 0 && n/64 < len(m.words) && m.words[n/64]>>(n%64)&1 != 0
}

// Set adds n to the set.
func (m *Mask) Set(n int) {
	for n/64 >= len(m.words) {
		m.words = append(m.words, 0)
	}
	m.words[n/64] |= 1 << (n % 64)
}

// Clear removes n from the set.
func (m *Mask) Clear(n int) {
	if n/64 < len(m.words) {
		m.words[n/64] &^= 1 << (n % 64)
	}
}

// Clone returns a copy that shares nothing.
func (m Mask) Clone() Mask { return Mask{append([]uint64(nil), m.words...)} }

// Count returns how many CPUs are in the set.
func (m Mask) Count() int {
	n := 0
	for _, w := range m.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// Limit returns the highest number in the set plus one, or 0.
func (m Mask) Limit() int {
	for i := len(m.words) - 1; i >= 0; i-- {
		if w := m.words[i]; w != 0 {
			return i*64 + bits.Len64(w)
		}
	}
	return 0
}

// All yields the numbers in ascending order.
func (m Mask) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range m.words {
			for ; w != 0; w &= w - 1 {
				if !yield(i*64 + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}
