package rcu

import (
	"math/rand/v2"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// mayUse returns the CPUs of this process.
var mayUse = sync.OnceValue(func() (cpus []int) {
	var may unix.CPUSet
	if unix.SchedGetaffinity(0, &may) != nil {
		return []int{0}
	}
	for n := range len(may) * 64 {
		if may.IsSet(n) {
			cpus = append(cpus, n)
		}
	}
	return cpus
})

// bind makes this thread stay on some CPUs, if it may.
func bind(cpus ...int) {
	var set unix.CPUSet
	for _, n := range cpus {
		set.Set(n)
	}
	_ = unix.SchedSetaffinity(0, &set)
}

// move takes this thread to another CPU and back, if there is one.
func move(r *rand.Rand) {
	cpus := mayUse()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	bind(cpus[r.IntN(len(cpus))])
	bind(cpus...)
}

// pin keeps this goroutine on the n-th CPU, modulo how many there are.
func pin(n int) (unpin func()) {
	cpus := mayUse()
	runtime.LockOSThread()
	bind(cpus[n%len(cpus)])
	return func() {
		bind(cpus...)
		runtime.UnlockOSThread()
	}
}
