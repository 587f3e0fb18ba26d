package percpu

import (
	"iter"
	"sync/atomic"
	"unsafe"
)

const (
	levelBits = 16
	levelMask = 1<<levelBits - 1
	// OnePop is added to a header by a pop: one pop more, one level less.
	OnePop = 1<<levelBits - 1

	closedFloor = levelMask // no level is above it

	headerSize = 24
	granule    = 64

	// MaxCap is the largest capacity of an area, in objects.
	MaxCap = 4096
)

// An Area is one CPU's array of free objects of one cache. The slots follow it in memory.
//
// Ownership: cap and floor belong to the holder of the CPU's lock. While they
// keep the area closed, and everywhere on the lock engine, so do the header and
// the slots; else these belong to the sequences that run on that CPU. Others may
// read the header, and then only as a hint.
type Area struct {
	header uint64
	cap    uint64
	floor  uint64
}

var _ [0]struct{} = [unsafe.Sizeof(Area{}) - headerSize]struct{}{}

// Where sequences find the parts of an area.
const (
	OffCap   = unsafe.Offsetof(Area{}.cap)
	OffFloor = unsafe.Offsetof(Area{}.floor)
	OffSlots = headerSize
)

// slots returns the words behind the area. An object is kept as a word, not as a
// pointer: the write barrier would look at what the slot held before.
func (a *Area) slots(n uint64) []uintptr {
	return unsafe.Slice((*uintptr)(unsafe.Add(unsafe.Pointer(a), headerSize)), n)
}

// Pop returns the object that was pushed last, or nil if the area is empty or closed.
// It is the lock engine's, as are Push, PopBulk and PushBulk.
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

// Push keeps a free object, or reports false if the area is full or closed.
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

// PopBulk takes up to len(dst) objects, those pushed last, and returns how many.
// It counts no pops.
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

// PushBulk keeps as many of the free objects in src as fit and returns how many,
// the first ones. At level >= cap it keeps none.
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

// Open lets pops and pushes in, up to capacity objects. Whoever sees the new
// limits sees the header and the slots that were written before.
//
// Preconditions: the CPU's lock is held; capacity is at most what the area's place was made for.
func (a *Area) Open(capacity int) {
	atomic.StoreUint64(&a.floor, 0)
	atomic.StoreUint64(&a.cap, uint64(capacity))
}

// Close makes pops and pushes fail that begin from here on. Sequences may have
// read the limits before: the header and the slots are the closer's only after
// a fence.
//
// Preconditions: the CPU's lock is held.
func (a *Area) Close() {
	atomic.StoreUint64(&a.floor, closedFloor)
	atomic.StoreUint64(&a.cap, 0)
}

// Drain takes all objects of a closed area and appends them to dst, which has room for them.
//
// Preconditions: the CPU's lock is held; the area is closed and fenced.
func (a *Area) Drain(dst []uintptr) []uintptr {
	level := a.header & levelMask
	dst = append(dst, a.slots(level)...)
	a.header -= level
	return dst
}

// Undo puts objects that Drain took back, in their order.
//
// Preconditions: the CPU's lock is held; the area is closed and drained.
func (a *Area) Undo(objs []uintptr) {
	copy(a.slots(uint64(len(objs))), objs)
	a.header += uint64(len(objs))
}

// Level returns how many objects the area holds. Without the CPU's lock it is a hint.
func (a *Area) Level() int { return int(atomic.LoadUint64(&a.header) & levelMask) }

// Objects yields the objects that the area holds. On the rseq engine sequences go on meanwhile, and
// each is one that the area has held.
//
// Preconditions: the CPU's lock is held; the area is that of a core that is not dying.
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

// CountMask is what Counts counts pops in: it begins anew after 2^48.
const CountMask = 1<<(64-levelBits) - 1

// Counts returns how many objects Pop has returned, modulo CountMask+1, and Level at the
// same moment. So pushes == pops + level, but for what PushBulk and Undo have added,
// and PopBulk and Drain have taken. Without the CPU's lock it is a hint.
func (a *Area) Counts() (pops uint64, level int) {
	h := atomic.LoadUint64(&a.header)
	return h >> levelBits, int(h & levelMask)
}

// Pointer returns an object that was kept as a word. It is no conversion from
// uintptr, which checkptr would refuse where objects are Go memory.
func Pointer(word uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&word)) }
