// Command engine uses an allocator and prints one line: its engine, how many
// threads could not register, and how many sequences were started over.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/internal/rseq"
	"slabfs/internal/rseq/testdata/work"
)

var (
	_          = flag.Bool("locked", false, "main stays on the main thread (see init)")
	filter     = flag.String("filter", "", "a filter answers calls before the allocator is made: rseq=ERRNO,membarrier=ERRNO; 0 kills")
	again      = flag.Bool("again", false, "start this program again under the filter")
	space      = flag.Uint64("space", 0, "bytes of address space that the process may have")
	late       = flag.String("late", "", "as -filter, once the allocator was used")
	unregister = flag.Bool("unregister", false, "take the C library's registration of the main goroutine's thread away, once the allocator was used")
)

func init() {
	if slices.Contains(os.Args, "-locked") {
		runtime.LockOSThread()
	}
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
}

func run() error {
	if *space > 0 {
		if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: *space, Max: *space}); err != nil {
			return err
		}
	}
	if *again {
		// This thread alone: a thread that glibc starts under the filter, now that it
		// has registered some, ends the program.
		runtime.LockOSThread()
		if err := install(*filter, 0); err != nil {
			return err
		}
		return unix.Exec("/proc/self/exe", []string{"engine"}, os.Environ())
	}
	if err := install(*filter, unix.SECCOMP_FILTER_FLAG_TSYNC); err != nil {
		return err
	}
	answer, err := work.Run(func() error {
		if *unregister {
			return unregisterThread()
		}
		return install(*late, unix.SECCOMP_FILTER_FLAG_TSYNC)
	})
	if err == nil {
		fmt.Println(answer)
	}
	return err
}

// install puts a seccomp filter on the thread, or with TSYNC on every thread, for good.
func install(calls string, flags uintptr) error {
	if calls == "" {
		return nil
	}
	prog := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the number of the call
	for call := range strings.SplitSeq(calls, ",") {
		name, number, _ := strings.Cut(call, "=")
		errno, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		action := uint32(unix.SECCOMP_RET_ERRNO | errno)
		if errno == 0 {
			action = unix.SECCOMP_RET_KILL_PROCESS
		}
		nr := map[string]uint32{"rseq": unix.SYS_RSEQ, "membarrier": unix.SYS_MEMBARRIER}[name]
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action})
	}
	prog = append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	runtime.LockOSThread() // no_new_privs is the thread's
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog))); e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	return nil
}

// unregisterThread ends the registration that glibc made, and locks the goroutine to the thread.
func unregisterThread() error {
	const archGetFS, flagUnregister = 0x1003, 1
	runtime.LockOSThread()
	var fs uint64
	if _, _, e := unix.RawSyscall(unix.SYS_ARCH_PRCTL, archGetFS, uintptr(unsafe.Pointer(&fs)), 0); e != 0 {
		return e
	}
	_, _, e := unix.RawSyscall6(unix.SYS_RSEQ, uintptr(fs+rseq.Offset), 32, flagUnregister, rseq.Sig, 0, 0)
	if e != 0 {
		return fmt.Errorf("unregister: %w", e)
	}
	return nil
}
