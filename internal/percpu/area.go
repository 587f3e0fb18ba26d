package percpu

import (
	"iter"
	"sync/atomic"
	"unsafe"
)

const (
	levelBits = 16
	levelMask = 1<<levelBits - 1
	// OnePop is what a pop adds to a header: one pop more, one level less.
	OnePop = 1<<levelBits - 1

	closedFloor = levelMask // no level is above it

	headerSize = 24
	granule    = 64

	// MaxCap is the largest capacity of an area, in objects.
	MaxCap = 4096
)

// An Area is one CPU's array of free objects of one cache. The slots follow it
// in memory.
//
// Ownership: cap and floor belong to the holder of the CPU's lock. While the
// area is closed, and always on the lock engine, the header and the slots also
// belong to that holder. Otherwise they belong to the sequences that run on the
// CPU. Others may read the header, and then only as a hint.
type Area struct {
	header uint64
	cap    uint64
	floor  uint64
}

var _ [0]struct{} = [unsafe.Sizeof(Area{}) - headerSize]struct{}{}

// The offsets of an area's parts, for sequences.
const (
	OffCap   = unsafe.Offsetof(Area{}.cap)
	OffFloor = unsafe.Offsetof(Area{}.floor)
	OffSlots = headerSize
)

// slots returns the n words after the area. An object is kept as a word, not as
// a pointer, because the write barrier would read the old content of the slot.
func (a *Area) slots(n uint64) []uintptr {
	return unsafe.Slice((*uintptr)(unsafe.Add(unsafe.Pointer(a), headerSize)), n)
}

// Pop returns the object that was pushed last, or nil if the area is empty or
// closed. Pop, Push, PopBulk and PushBulk are for the lock engine.
//
// Preconditions: the CPU's lock is held.
func (a *Area) Pop() unsafe.Pointer {
	level := a.header & levelMask
	if level <= a.floor {
		return nil
	}
	obj := a.slots(level)[level-1]
	a.header += OnePop
	return Pointer(obj)
}

// Push adds a free object. It reports false if the area is full or closed.
//
// Preconditions: the CPU's lock is held.
func (a *Area) Push(obj unsafe.Pointer) bool {
	level := a.header & levelMask
	if level >= a.cap {
		return false
	}
	a.slots(level + 1)[level] = uintptr(obj)
	a.header++
	return true
}

// PopBulk moves up to len(dst) objects to dst, those pushed last, and returns
// how many. It does not count them as pops.
//
// Preconditions: the CPU's lock is held.
func (a *Area) PopBulk(dst []uintptr) int {
	level := a.header & levelMask
	if level <= a.floor {
		return 0
	}
	n := min(uint64(len(dst)), level-a.floor)
	copy(dst, a.slots(level)[level-n:])
	a.header -= n
	return int(n)
}

// PushBulk adds as many of the free objects in src as fit, the first ones, and
// returns how many. At level >= cap it adds none.
//
// Preconditions: the CPU's lock is held.
func (a *Area) PushBulk(src []uintptr) int {
	level := a.header & levelMask
	if level >= a.cap {
		return 0
	}
	n := min(uint64(len(src)), a.cap-level)
	copy(a.slots(level + n)[level:], src[:n])
	a.header += n
	return int(n)
}

// Open lets pops and pushes in, up to capacity objects. A CPU that sees the new
// limits also sees everything that was written to the header and the slots
// before.
//
// Preconditions: the CPU's lock is held; the area's place was made for at least
// capacity objects.
func (a *Area) Open(capacity int) {
	atomic.StoreUint64(&a.floor, 0)
	atomic.StoreUint64(&a.cap, uint64(capacity))
}

// Close makes all later pops and pushes fail. Sequences that run already may
// have read the limits before. So the header and the slots belong to the closer
// only after a fence.
//
// Preconditions: the CPU's lock is held.
func (a *Area) Close() {
	atomic.StoreUint64(&a.floor, closedFloor)
	atomic.StoreUint64(&a.cap, 0)
}

// Drain appends all objects of a closed area to dst, which must have room for
// them, and empties the area.
//
// Preconditions: the CPU's lock is held; the area is closed and fenced.
func (a *Area) Drain(dst []uintptr) []uintptr {
	level := a.header & levelMask
	dst = append(dst, a.slots(level)...)
	a.header -= level
	return dst
}

// Undo puts back the objects that Drain took, in their order.
//
// Preconditions: the CPU's lock is held; the area is closed and drained.
func (a *Area) Undo(objs []uintptr) {
	copy(a.slots(uint64(len(objs))), objs)
	a.header += uint64(len(objs))
}

// Level returns how many objects the area holds. Without the CPU's lock it is a
// hint.
func (a *Area) Level() int { return int(atomic.LoadUint64(&a.header) & levelMask) }

// Objects yields the objects that the area holds. On the rseq engine, sequences
// continue during the iteration, so a yielded object may have left the area
// already.
//
// Preconditions: the CPU's lock is held; the area belongs to a core that is
// not dying.
func (a *Area) Objects() iter.Seq[unsafe.Pointer] {
	return func(yield func(unsafe.Pointer) bool) {
		slots := a.slots(uint64(a.Level()))
		for i := range slots {
			if !yield(Pointer(atomic.LoadUintptr(&slots[i]))) {
				return
			}
		}
	}
}

// CountMask is the largest number of pops that Counts returns. After it, the
// count begins again at 0.
const CountMask = 1<<(64-levelBits) - 1

// Counts returns how many objects Pop has returned, modulo CountMask+1, and
// Level at the same moment. If nobody used PushBulk, Undo, PopBulk or Drain,
// the number of pushes is pops + level. Without the CPU's lock, the result is a
// hint.
func (a *Area) Counts() (pops uint64, level int) {
	h := atomic.LoadUint64(&a.header)
	return h >> levelBits, int(h & levelMask)
}

// Pointer returns an object that was kept as a word. It does not convert a
// uintptr, because checkptr would refuse the conversion where objects are Go
// memory.
func Pointer(word uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&word)) }
