package alloc

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"slabfs/internal/invariants"
	"slabfs/internal/pages"
)

// A slab is the descriptor of 2^order pages, cut into objects. It lies out of
// band, as the descriptor of the first page.
//
// Protection of fields:
//
//	I  set before the slab has an owner, then constant
//	N  mu of the slab's node
//	W  as N; while where is onCPU, the lock of that CPU too
type slab struct {
	next, prev pages.Page // W: neighbours in the list that where tells
	bits       uint64     // N: a bit for each free object; for more than 64 objects, the place of the words
	live       uint32     // I: place of a second bitmap, of live objects (invariants builds only)
	inUse      uint16     // N: objects that are not free in the slab
	where      uint8      // N: onNone, onCPU, onNode or underWay
	_          uint8      // used by internal/pages while the pages are free
}

var _ [0]struct{} = [unsafe.Sizeof(slab{}) - pages.DescSize]struct{}{}

const (
	onNone   = iota // full: on no list
	onCPU           // a CPU's cpu slab or cpu partial slab
	onNode          // the node's partial list; its objects may all be free
	underWay        // on the private list of a flush
)

func slabAt(p pages.Page) *slab { return (*slab)(pages.Desc(p)) }

// freeWords returns the bitmap of free objects.
func (l *layout) freeWords(s *slab) []uint64 {
	if l.words == 1 {
		return unsafe.Slice(&s.bits, 1)
	}
	return pages.Bits(uint32(s.bits), l.words)
}

// initSlab makes a slab of fresh pages. All of its objects are free.
func (l *layout) initSlab(p pages.Page) error {
	s := slabAt(p)
	*s = slab{}
	if l.words > 1 {
		at, err := pages.AllocBits(l.words)
		if err != nil {
			return err
		}
		s.bits = uint64(at)
	}
	if invariants.Enabled {
		at, err := pages.AllocBits(l.words)
		if err != nil {
			if l.words > 1 {
				pages.FreeBits(uint32(s.bits), l.words)
			}
			return err
		}
		clear(pages.Bits(at, l.words))
		s.live = at
	}
	words := l.freeWords(s)
	for i := range words {
		words[i] = ^uint64(0)
	}
	if rest := l.objects % 64; rest != 0 {
		words[len(words)-1] = 1<<rest - 1
	}
	return nil
}

// exitSlab undoes initSlab.
func (l *layout) exitSlab(p pages.Page) {
	s := slabAt(p)
	if invariants.Enabled {
		pages.FreeBits(s.live, l.words)
	}
	if l.words > 1 {
		pages.FreeBits(uint32(s.bits), l.words)
	}
	*s = slab{}
}

// freeIn returns how many objects are free in the slab.
//
// Preconditions: node.mu is held.
func (l *layout) freeIn(s *slab) int { return l.objects - int(s.inUse) }

// take moves up to len(dst) free objects out of the slab and returns how many.
//
// Preconditions: node.mu is held.
func (l *layout) take(p pages.Page, dst []uintptr) int {
	s := slabAt(p)
	n, base := 0, uintptr(pages.At(p))
	size := uintptr(l.size)
	for i, words := 0, l.freeWords(s); i < len(words) && n < len(dst); i++ {
		w, at := words[i], base+uintptr(i)*64*size
		first := bits.TrailingZeros64(w)
		if run := w >> first; run&(run+1) == 0 { // one run of ones, as in a slab that was empty, or no ones
			at += uintptr(first) * size
			here := dst[n:min(n+bits.OnesCount64(run), len(dst))]
			for j := range here {
				here[j] = at
				at += size
			}
			n += len(here)
			words[i] = run >> len(here) << len(here) << first
			continue
		}
		for w != 0 && n < len(dst) {
			dst[n] = at + uintptr(bits.TrailingZeros64(w))*size
			n++
			w &= w - 1
		}
		words[i] = w
	}
	s.inUse += uint16(n)
	return n
}

// slabOf returns the slab that an object of this layout lies in.
func (l *layout) slabOf(obj unsafe.Pointer) pages.Page {
	p, _ := pages.Of(obj)
	return p &^ (l.pages - 1)
}

// inverseShift is large enough for at to be exact: an offset in a slab is below
// 2^22, and a size is at most 2^22.
const inverseShift = 44

// at returns the number of the object that begins off bytes after the beginning
// of a slab. exact is false if no object begins there. It multiplies by the
// inverse of the size; a division would take several times as long.
func (l *layout) at(off uint32) (i uint32, exact bool) {
	i = uint32(uint64(off) * l.inverse >> inverseShift)
	return i, off == i*l.size && int(i) < l.objects
}

// find returns the slab that an address lies in, and the number of the object
// there. exact is false if no object begins at the address.
func (l *layout) find(obj unsafe.Pointer) (p pages.Page, i uint32, exact bool) {
	p = l.slabOf(obj)
	i, exact = l.at(uint32(uintptr(obj) - uintptr(pages.At(p))))
	return p, i, exact
}

// put makes objects free in their slab. It stops at the first object that lies
// in another slab. It returns how many objects come before that one, and how
// many of these it put. It does not put objects that are free already, or
// addresses at which no object begins.
//
// Preconditions: node.mu is held; objs[0] lies in the slab.
func (l *layout) put(p pages.Page, objs []uintptr) (here, n int) {
	s, base := slabAt(p), uintptr(pages.At(p))
	words := l.freeWords(s)
	for here < len(objs) && objs[here]-base < l.bytes {
		first, exact := l.at(uint32(objs[here] - base))
		if !exact {
			here++
			continue
		}
		// Objects that were allocated one after the other are
		// neighbours, in ascending or descending order.
		run, last := 1, first
		if rest := objs[here:]; len(rest) > 1 {
			up, down := uintptr(l.size), -uintptr(l.size)
			switch step := rest[1] - rest[0]; step {
			case up:
				for limit := min(len(rest), l.objects-int(first)); run < limit && rest[run]-rest[run-1] == up; run++ {
				}
				last += uint32(run - 1)
			case down:
				for limit := min(len(rest), int(first)+1); run < limit && rest[run]-rest[run-1] == down; run++ {
				}
				first -= uint32(run - 1)
			}
		}
		here += run
		for first <= last {
			w, from := &words[first/64], first%64
			until := min(last-first+from, 63)
			mask := ^uint64(0) >> (63 - until + from) << from
			n += bits.OnesCount64(mask &^ *w) // an object that is named twice is one bit
			*w |= mask
			first += until - from + 1
		}
	}
	s.inUse -= uint16(n)
	return here, n
}

// putOne is put of one object, and returns how many were put.
//
// Preconditions: node.mu is held; obj lies in the slab.
func (l *layout) putOne(p pages.Page, obj uintptr) int {
	s := slabAt(p)
	i, exact := l.at(uint32(obj - uintptr(pages.At(p))))
	if !exact { // the rest of the slab may have no word in the bitmap
		return 0
	}
	w, mask := &s.bits, uint64(1)<<(i%64)
	if l.words > 1 {
		w = &pages.Bits(uint32(s.bits), l.words)[i/64]
	}
	if *w&mask != 0 {
		return 0
	}
	*w |= mask
	s.inUse--
	return 1
}

// setLive marks an object as live or free, and reports whether that changed
// anything. It is for invariants builds.
func (l *layout) setLive(p pages.Page, i uint32, live bool) bool {
	w, mask := &pages.Bits(slabAt(p).live, l.words)[i/64], uint64(1)<<(i%64)
	if live {
		return atomic.OrUint64(w, mask)&mask == 0
	}
	return atomic.AndUint64(w, ^mask)&mask != 0
}

// A slabList is a doubly linked list of slabs through their descriptors. The
// lock of the list also guards the links.
type slabList struct {
	head, tail pages.Page
	n          int
}

func (l *slabList) pushFront(p pages.Page) {
	s := slabAt(p)
	s.prev, s.next = 0, l.head
	if l.head != 0 {
		slabAt(l.head).prev = p
	} else {
		l.tail = p
	}
	l.head = p
	l.n++
}

func (l *slabList) pushBack(p pages.Page) {
	s := slabAt(p)
	s.prev, s.next = l.tail, 0
	if l.tail != 0 {
		slabAt(l.tail).next = p
	} else {
		l.head = p
	}
	l.tail = p
	l.n++
}

func (l *slabList) remove(p pages.Page) {
	s := slabAt(p)
	if s.prev != 0 {
		slabAt(s.prev).next = s.next
	} else {
		l.head = s.next
	}
	if s.next != 0 {
		slabAt(s.next).prev = s.prev
	} else {
		l.tail = s.prev
	}
	s.next, s.prev = 0, 0
	l.n--
}

// popFront returns 0 if the list is empty.
func (l *slabList) popFront() pages.Page {
	p := l.head
	if p != 0 {
		l.remove(p)
	}
	return p
}
