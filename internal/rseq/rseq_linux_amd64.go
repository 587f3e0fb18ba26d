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
	areaLen  = 32 // length of the first version of struct rseq, which every kernel supports
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

// An Area is the part of struct rseq that we use. We write only rseqCS. If a
// program writes the kernel's fields, the kernel kills it or reports a wrong
// CPU later.
type Area struct {
	cpuIDStart uint32
	cpuID      uint32 // the CPU while the thread runs; ^0 before registration, ^1 if it failed
	rseqCS     uint64 // address of the descriptor of the current sequence
	flags      uint32
	_          [12]byte
}

var _ [0]struct{} = [unsafe.Sizeof(Area{}) - areaLen]struct{}{}

// The offsets of an area's parts, for sequences.
const (
	OffCPU = unsafe.Offsetof(Area{}.cpuID)
	OffCS  = unsafe.Offsetof(Area{}.rseqCS)
)

// state is the state of the process.
//
// Protection of fields: I, set by Start, then constant; L, mu; A, atomic.
var state struct {
	mu     lockdep.Mutex
	done   bool    // L: Start has an answer
	err    error   // L: the answer
	length uintptr // I: length of a registration, in bytes
	stride uintptr // I: distance between two areas of the pool, in bytes

	free    []unsafe.Pointer       // L: areas that no living thread has
	used    map[int]unsafe.Pointer // L: by thread; ended threads stay until an area is needed
	broken  *Area                  // I: of all threads that cannot register; its CPU is -1
	foreign map[uint64]bool        // L: FS of threads of a C library without a registration

	failed atomic.Uint64 // A: see Failed
}

func init() { state.mu.Init(lockdep.Leaf) }

// Offset is what a sequence adds to 0(FS). It is constant once Start has
// returned.
var Offset uint64

// Start finds out, once for the process, whether sequences can be used. It
// always returns the same answer. Its errors wrap ErrUnsupported. The first
// call takes about a millisecond.
func Start() error {
	state.mu.Lock()
	defer state.mu.Unlock()
	if !state.done {
		// Never probe on the main thread. In a PIE binary without cgo,
		// ld.so has registered an area for that thread before Go moved
		// FS away, and the kernel refuses a second area for it.
		cpu.Aside(func() { state.err = probe() })
		state.done = true
	}
	return state.err
}

// probe tries all that sequences need, on the calling thread.
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

// fences is how many fences tryFence tries, which takes about a millisecond.
// tryFence counts instead of looking at a clock, because clocks stand still in
// a bubble of testing/synctest.
const fences = 500

// tryFence runs a sequence again and again while another thread fences. A
// sequence that began before a fence must not see what is written after that
// fence. An emulation of the system calls may accept them and do nothing. If
// both threads share a CPU, this tests preemption instead.
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
			runtime.Gosched() // both may share one processor
		}
	}
	err := <-answer
	if err == nil && broken {
		err = errors.New("membarrier does not start sequences over (are the system calls emulated?)")
	}
	return err
}

var failing atomic.Bool

// FailFences makes fences fail, or work again. A lack of memory or a filter can
// make them fail at any time. It is for tests.
func FailFences(fail bool) { failing.Store(fail) }

// Fence starts over every sequence that runs on any CPU now. A sequence that
// begins later sees what the caller wrote before. Fence is also a full memory
// barrier on every thread of the process; alloc/rcu relies on that and says why
// it may. If Fence fails, it has had no effect.
func Fence() error {
	if failing.Load() {
		return fmt.Errorf("membarrier: made to fail: %w", unix.ENOMEM)
	}
	if _, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierExpeditedRseq, 0, 0); e != 0 {
		return fmt.Errorf("membarrier: %w", e)
	}
	return nil
}

// Register registers the calling thread if it has not been registered yet. It
// is for slow paths, and costs one call if there is nothing to do.
//
// Preconditions: Start returned nil.
func Register() {
	switch word, cpu := thread(); {
	case word == 0 && Offset == 0:
		registerThread()
	case word == 0: // a C library owns the threads, but not this one
		countForeign(0)
	case Offset != 0 && cpu < 0:
		countForeign(word)
	}
}

// CPU returns the number of the CPU that the calling thread runs on. The number
// is negative if sequences do not run on the thread. It is a hint, unless the
// goroutine is locked to its thread.
//
// Preconditions: Start returned nil.
func CPU() int {
	_, cpu := thread()
	return int(cpu)
}

// Registered reports whether sequences run on the calling thread. Like CPU, it
// is a hint and needs Start.
func Registered() bool { return CPU() >= 0 }

// registerThread gives the calling thread an area. If the kernel refuses to
// register the thread, it keeps the broken area until it ends.
func registerThread() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	state.mu.Lock()
	defer state.mu.Unlock()
	if fsWord() != 0 { // the goroutine has moved to another thread since the caller looked
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

// Failed returns how many threads could not register. They always take slow
// paths.
func Failed() uint64 { return state.failed.Load() }

// registered reports whether the kernel keeps the area up to date.
func (a *Area) registered() bool { return int32(atomic.LoadUint32(&a.cpuID)) >= 0 }

// register gives the calling thread an area. The thread keeps the area even if
// the kernel refuses it, so no area can ever have two threads.
//
// Preconditions: state.mu is held, by the caller or by a goroutine that waits
// for the caller; the goroutine is locked to its thread; 0(FS) is 0.
func register() error {
	tid := unix.Gettid()
	area := state.used[tid] // of a thread that ended, whose number this thread has now
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

// newArea returns an area that no living thread has. Once the kernel does not
// know a thread's number any more, nothing writes to the thread's area.
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

// sizes returns the length to register, and the distance between areas, from
// what the kernel says of its struct rseq. Before Linux 6.3 the kernel says
// nothing. We register all that the kernel offers. A length of 32 would make
// kernels since 7.0 do the work that old programs need after every context
// switch.
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

// growPool maps memory for more areas. It is never unmapped, because the kernel
// writes to a thread's area as long as the thread lives.
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
	pairs, _ := unix.Auxv() // on an error, as if the kernel had said nothing
	for _, p := range pairs {
		m[p[0]] = p[1]
	}
	return m
})

func auxv(key uintptr) uintptr { return auxvOnce()[key] }

// thread returns the word at 0(FS) of the calling thread, and the CPU in its
// area. The CPU is negative if the thread has no area. Only assembly may go
// from the word to the area. In Go code the goroutine could be preempted in
// between and continue after its old thread has ended and a C library has
// unmapped that thread's area.
//
// Preconditions: Start returned nil.
func thread() (word uint64, cpu int32)

// fsWord returns the word at 0(FS). To look for an area there, the goroutine
// must be locked to its thread.
func fsWord() uint64

// setFSWord sets the word at 0(FS). Only a thread that Go made may do that.
func setFSWord(word uint64)

// spinLen is the length of spin's section in bytes.
const spinLen = 47

// spin is a sequence that stores n in *begun and waits for n in *fenced, for
// some 100 microseconds. It reports whether it saw n there. If the kernel
// starts it over, or if it waits in vain, it returns false.
func spin(area *Area, n uint32, begun, fenced *uint32) (seen bool)

// spinDescriptor returns the address of spin's struct rseq_cs.
func spinDescriptor() *[4]uint64

// fsBase returns FS, or 0 if the kernel does not tell.
func fsBase() uint64 {
	const archGetFS = 0x1003
	var base uint64
	if _, _, e := unix.RawSyscall(unix.SYS_ARCH_PRCTL, archGetFS, uintptr(unsafe.Pointer(&base)), 0); e != 0 {
		return 0
	}
	return base
}
