package rseq

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/internal/cpu"
	"slabfs/internal/lockdep"
)

const (
	areaLen  = 32 // length of the first struct rseq, which every kernel knows
	pageSize = 4096

	atPhdr        = 3
	atPhent       = 4
	atPhnum       = 5
	atBase        = 7
	atFeatureSize = 27
	atAlign       = 28

	membarrierExpeditedRseq         = 1 << 7
	membarrierRegisterExpeditedRseq = 1 << 8
)

// An Area is the part of struct rseq that we use. Only rseqCS is written from
// here: the kernel kills whoever writes its fields, or hands out a wrong CPU later.
type Area struct {
	cpuIDStart uint32
	cpuID      uint32 // the CPU while the thread runs; ^0 before registration, ^1 if it failed
	rseqCS     uint64 // address of the descriptor of the sequence under way
	flags      uint32
	_          [12]byte
}

var _ [0]struct{} = [unsafe.Sizeof(Area{}) - areaLen]struct{}{}

// Where sequences find the parts of an area.
const (
	OffCPU = unsafe.Offsetof(Area{}.cpuID)
	OffCS  = unsafe.Offsetof(Area{}.rseqCS)
)

// state of the process.
//
// Protection of fields: I, set by Start, then constant; L, mu; A, atomic.
var state struct {
	mu     lockdep.Mutex
	done   bool    // L: Start has an answer
	err    error   // L: the answer
	length uintptr // I: of a registration
	stride uintptr // I: from one area of the pool to the next

	free    []unsafe.Pointer       // L: areas that no living thread has
	used    map[int]unsafe.Pointer // L: by thread; of ended ones too, until an area is wanted
	broken  *Area                  // I: of all threads that cannot register; its CPU is -1
	foreign map[uint64]bool        // L: FS of threads of a C library without a registration

	failed atomic.Uint64 // A
}

func init() { state.mu.Init(lockdep.Leaf) }

// Offset is what a sequence adds to 0(FS). It is constant once Start has returned.
var Offset uint64

// Start finds out, once for the process, whether sequences can be used.
func Start() error {
	state.mu.Lock()
	defer state.mu.Unlock()
	if !state.done {
		// Never on the main thread: in a PIE binary without cgo ld.so has registered an
		// area for that one before Go moved FS away, and the kernel refuses a second
		// one there only.
		cpu.Aside(func() { state.err = probe() })
		state.done = true
	}
	return state.err
}

// probe tries all that sequences need, on the thread at hand.
//
// Preconditions: as for register.
func probe() error {
	if err := initPool(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	switch word, fs := fsWord(), fsBase(); word {
	case 0:
		if err := register(); err != nil {
			return fmt.Errorf("%w: rseq: %w", ErrUnsupported, err)
		}
	case fs:
		offset, err := glibcOffset()
		if err != nil {
			return fmt.Errorf("%w: a C library owns the threads: %w", ErrUnsupported, err)
		}
		Offset = offset
	default:
		return fmt.Errorf("%w: somebody else uses the word at the thread pointer", ErrUnsupported)
	}
	area := (*Area)(at(uintptr(fsWord() + Offset)))
	if !area.registered() {
		return fmt.Errorf("%w: this thread has no CPU number (%d)", ErrUnsupported, int32(area.cpuID))
	}
	if _, _, e := unix.RawSyscall(unix.SYS_MEMBARRIER, membarrierRegisterExpeditedRseq, 0, 0); e != 0 {
		return fmt.Errorf("%w: membarrier (Linux >= 5.10): %w", ErrUnsupported, e)
	}
	if err := tryFence(area); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return nil
}

// fences is how many fences tryFence tries, about a millisecond. It counts and
// does not look at a clock, which stands still in a bubble of testing/synctest.
const fences = 500

// tryFence runs a sequence again and again while another thread fences: one
// that has begun before a fence must not see what is written after it. An
// emulation may take the calls and do nothing. Where both threads share a CPU,
// it is preemption that this tries.
func tryFence(area *Area) error {
	shared := new(struct{ begun, fenced, stop uint32 })
	answer := make(chan error)
	go func() {
		var err error
		for i := 0; err == nil && i < fences; i++ {
			n := atomic.LoadUint32(&shared.begun)
			err = Fence()
			atomic.StoreUint32(&shared.fenced, n)
		}
		atomic.StoreUint32(&shared.stop, 1)
		answer <- err
	}()
	broken := false
	for n := uint32(1); !broken && atomic.LoadUint32(&shared.stop) == 0; n++ {
		broken = spin(area, n, &shared.begun, &shared.fenced)
		if n%16 == 0 {
			runtime.Gosched() // there may be one processor for both
		}
	}
	err := <-answer
	if err == nil && broken {
		err = errors.New("membarrier does not start sequences over (are the system calls emulated?)")
	}
	return err
}

var failing atomic.Bool

// FailFences makes fences fail, or not any more, as memory or a filter can make
// them do at any time. It is for tests.
func FailFences(fail bool) { failing.Store(fail) }

// Fence starts over every sequence that runs on any CPU now. A sequence that
// begins later sees what the caller wrote before. It is also a full memory barrier
// on every thread of the process: alloc/rcu relies on that, and tells why it may.
// If it fails, nothing has happened.
func Fence() error {
	if failing.Load() {
		return fmt.Errorf("membarrier: made to fail: %w", unix.ENOMEM)
	}
	if _, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierExpeditedRseq, 0, 0); e != 0 {
		return fmt.Errorf("membarrier: %w", e)
	}
	return nil
}

// Register registers the calling thread if it has not been yet. It is for slow
// paths, and costs one call where nothing is to be done.
//
// Preconditions: Start returned nil.
func Register() {
	switch word, cpu := thread(); {
	case word == 0 && Offset == 0:
		registerThread()
	case word == 0: // a C library owns the threads, and this one is none of its own: not ours to touch
		countForeign(0)
	case Offset != 0 && cpu < 0:
		countForeign(word)
	}
}

// CPU returns the number of the CPU that the calling thread runs on, below 0 if sequences do
// not run on the thread. It is a hint, unless the goroutine is locked to the thread.
//
// Preconditions: Start returned nil.
func CPU() int {
	_, cpu := thread()
	return int(cpu)
}

// Registered reports whether sequences run on the calling thread, as good a hint as CPU.
func Registered() bool { return CPU() >= 0 }

// registerThread gives the calling thread an area. One that the kernel refuses
// gets the broken one, for ever.
func registerThread() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	state.mu.Lock()
	defer state.mu.Unlock()
	if fsWord() != 0 { // this is another thread than that which called
		return
	}
	if register() != nil {
		state.failed.Add(1)
		setFSWord(uint64(uintptr(unsafe.Pointer(state.broken))))
	}
}

// countForeign counts a thread whose C library has not registered it.
func countForeign(fs uint64) {
	state.mu.Lock()
	defer state.mu.Unlock()
	if !state.foreign[fs] {
		state.foreign[fs] = true
		state.failed.Add(1)
	}
}

// Failed returns how many threads could not register. They take slow paths for ever.
func Failed() uint64 { return state.failed.Load() }

// registered reports whether the kernel keeps the area up to date.
func (a *Area) registered() bool { return int32(atomic.LoadUint32(&a.cpuID)) >= 0 }

// register gives the calling thread an area, which stays its own whatever the
// kernel says, so that no area can come to have two threads.
//
// Preconditions: state.mu is held, if only by who waits for this; the goroutine
// is locked to its thread; 0(FS) is 0.
func register() error {
	tid := unix.Gettid()
	area := state.used[tid] // of a thread that ended: its number is ours now
	if area == nil {
		var err error
		if area, err = newArea(); err != nil {
			return err
		}
		state.used[tid] = area
	}
	clear(unsafe.Slice((*byte)(area), state.stride))
	(*Area)(area).cpuID = ^uint32(0)
	if e := sysRseq(area, state.length, Sig); e != 0 {
		return e
	}
	setFSWord(uint64(uintptr(area)))
	return nil
}

// sysRseq is rseq(2), which has no wrapper in x/sys.
func sysRseq(area unsafe.Pointer, length uintptr, sig uint32) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_RSEQ, uintptr(area), length, 0, uintptr(sig), 0, 0)
	return e
}

// newArea returns an area that no living thread has: once a thread's number is
// unknown to the kernel, nobody writes to its area any more.
//
// Preconditions: as for register.
func newArea() (unsafe.Pointer, error) {
	if len(state.free) == 0 {
		pid := unix.Getpid()
		for tid, area := range state.used {
			if unix.Tgkill(pid, tid, 0) == unix.ESRCH {
				delete(state.used, tid)
				state.free = append(state.free, area)
			}
		}
	}
	if len(state.free) == 0 {
		if err := growPool(); err != nil {
			return nil, err
		}
	}
	last := len(state.free) - 1
	area := state.free[last]
	state.free = state.free[:last]
	return area, nil
}

func initPool() error {
	var err error
	if state.length, state.stride, err = sizes(auxv(atFeatureSize), auxv(atAlign)); err != nil {
		return err
	}
	state.used = make(map[int]unsafe.Pointer)
	state.foreign = make(map[uint64]bool)
	area, err := newArea()
	if err != nil {
		return err
	}
	state.broken = (*Area)(area)
	state.broken.cpuID = ^uint32(0)
	return nil
}

// sizes returns with what length to register, and how far areas lie apart, for
// what the kernel says of its struct rseq; before Linux 6.3 it says nothing. A
// length of 32 has kernels since 7.0 do for us what they do for old programs,
// after every context switch, so all that the kernel offers is asked for.
func sizes(features, align uintptr) (length, stride uintptr, err error) {
	length = max(areaLen, features)
	for stride = max(64, align); stride < length; {
		stride *= 2
	}
	if stride > PageEnd-PageBegin {
		return 0, 0, fmt.Errorf("the kernel's struct rseq is too large (%d bytes, aligned to %d)", features, align)
	}
	return length, stride, nil
}

// growPool maps memory for more areas. It is never unmapped: the kernel writes
// to the area of a thread for as long as the thread lives.
func growPool() error {
	const n = 16 * pageSize
	p, err := unix.MmapPtr(-1, 0, nil, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("map memory for areas: %w", err)
	}
	for page := uintptr(0); page < n; page += pageSize {
		for at := uintptr(PageBegin); at+state.stride <= PageEnd; at += state.stride {
			state.free = append(state.free, unsafe.Add(p, page+at))
		}
	}
	return nil
}

var auxvOnce = sync.OnceValue(func() map[uintptr]uintptr {
	m := make(map[uintptr]uintptr)
	pairs, _ := unix.Auxv() // none: as if the kernel had said nothing
	for _, p := range pairs {
		m[p[0]] = p[1]
	}
	return m
})

func auxv(key uintptr) uintptr { return auxvOnce()[key] }

// thread returns the word at 0(FS) of the calling thread, and the CPU that its
// area names: below 0 where it has none. Only assembly may look from the one to
// the other. In Go code the goroutine could be preempted in between and go on
// where its old thread has ended, and a C library has unmapped that thread's area.
//
// Preconditions: Start returned nil.
func thread() (word uint64, cpu int32)

// fsWord returns the word at 0(FS). To look for an area there, the goroutine must
// be locked to its thread.
func fsWord() uint64

// setFSWord sets it, which only a thread that Go made may do.
func setFSWord(word uint64)

// spinLen is the length of spin's section in bytes.
const spinLen = 47

// spin is a sequence that stores n in *begun and waits for it in *fenced, for some
// 100 microseconds. It reports whether it saw it there; if it was started over, or
// waited in vain, it did not.
func spin(area *Area, n uint32, begun, fenced *uint32) (seen bool)

// spinDescriptor returns the address of spin's struct rseq_cs.
func spinDescriptor() *[4]uint64

// fsBase returns FS.
func fsBase() uint64 {
	const archGetFS = 0x1003
	var base uint64
	if _, _, e := unix.RawSyscall(unix.SYS_ARCH_PRCTL, archGetFS, uintptr(unsafe.Pointer(&base)), 0); e != 0 {
		return 0
	}
	return base
}
