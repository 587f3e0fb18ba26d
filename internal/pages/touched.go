package pages

import "math/bits"

// A page is touched from the moment when it, or another page of its system
// page, is allocated, until its memory is given back to the system. The pages
// of one system page are all touched, or all untouched.

// touch marks n pages from p on as touched.
//
// Preconditions: heap.mu is held.
func touch(p Page, n int) {
	if fresh := n - countTouched(p, n); fresh > 0 {
		heap.mapped.Add(int64(fresh))
		eachWord(p, n, func(w *uint64, mask uint64) { *w |= mask })
	}
}

// touchNew marks the first n pages of a run of have pages that is about to be
// used, and the rest of their system pages. With HugeAlways, it marks the whole
// huge page: all of its memory comes when its first byte is touched.
//
// Preconditions: heap.mu is held; the run is on no list.
func touchNew(p Page, n, have int) {
	if heap.huge == HugeAlways {
		for q := (p + hugePages - 1) &^ (hugePages - 1); q < p+Page(n) && q+hugePages <= p+Page(have); q += hugePages {
			if countTouched(q, hugePages) == 0 {
				touch(q, hugePages)
			}
		}
	}
	from, to := wholePages(p, n)
	touch(from, int(to-from))
}

// untouch removes the mark from n pages from p on.
//
// Preconditions: heap.mu is held.
func untouch(p Page, n int) {
	heap.mapped.Add(-int64(countTouched(p, n)))
	eachWord(p, n, func(w *uint64, mask uint64) { *w &^= mask })
}

// countTouched returns how many of n pages from p on are touched.
//
// Preconditions: heap.mu is held.
func countTouched(p Page, n int) int {
	sum := 0
	eachWord(p, n, func(w *uint64, mask uint64) { sum += bits.OnesCount64(*w & mask) })
	return sum
}

// eachWord calls f with each word of the bitmap that covers pages [p, p+n), and
// with the mask of those pages in that word.
func eachWord(p Page, n int, f func(w *uint64, mask uint64)) {
	for end := p + Page(n); p < end; {
		next := min(end, (p|63)+1)
		f(&heap.touched[p/64], ^uint64(0)>>(64-(next-p))<<(p%64))
		p = next
	}
}
