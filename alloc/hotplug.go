package alloc

import (
	"context"
	"errors"
	"fmt"

	"slabfs/internal/cpu"
	"slabfs/internal/fault"
	"slabfs/internal/rseq"
)

// SetOnline takes a CPU offline for this allocator, or brings it back. All CPUs
// begin online. If the CPU is already in the wanted state, SetOnline does
// nothing.
//
// An offline CPU holds nothing: its sheaves are drained and closed, and its
// slabs belong to the node. Threads that run on the CPU still allocate and
// free, from the node and under locks.
//
// SetOnline may be called wherever NewCache may, also from a Publisher or a
// store.
//
// Errors:
//
//   - ErrNotExist: the machine cannot have that CPU.
//   - ErrBusy: it is the last CPU that is online.
//   - The error of membarrier(2): nothing has changed.
func (a *Allocator) SetOnline(n int, online bool) error {
	return a.SetOnlineContext(context.Background(), n, online)
}

// SetOnlineContext is SetOnline that gives up if ctx ends while it waits for
// its lock. It then returns ctx's error and has done nothing. A write to
// cpuN/online calls it.
func (a *Allocator) SetOnlineContext(ctx context.Context, n int, online bool) error {
	defer a.reportDamage()
	err := a.hotplug.SetOnline(ctx, n, online)
	switch {
	case err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return err
	case errors.Is(err, cpu.ErrNotPossible):
		err = fmt.Errorf("possible are %v: %w", a.hotplug.Possible(), ErrNotExist)
	case errors.Is(err, cpu.ErrLast):
		err = fmt.Errorf("%w: %w", err, ErrBusy)
	}
	if online {
		return fmt.Errorf("bring CPU %d online: %w", n, err)
	}
	return fmt.Errorf("take CPU %d offline: %w", n, err)
}

func (a *Allocator) reportDamage() {
	for _, k := range *a.cores.Load() {
		k.reportDamage()
	}
}

// hotplugState is what the allocator does when CPUs come and go.
func (a *Allocator) hotplugState() *cpu.State {
	return &cpu.State{Name: "slab:online", Online: a.cpuOnline, Offline: a.cpuOffline}
}

// cpuOnline reopens the CPU's sheaves that were opened before.
//
// Preconditions: the hotplug lock is held for writing. So the cores on the list
// are all the cores that are not dying. The same holds for cpuOffline.
func (a *Allocator) cpuOnline(n int) error {
	for _, k := range *a.cores.Load() {
		pc := k.cpus[n]
		pc.mu.Lock()
		pc.off = false
		k.reopen(pc)
		pc.mu.Unlock()
	}
	return nil
}

// cpuOffline closes the CPU's sheaves for as long as it is offline, and moves
// everything that the CPU keeps to the nodes. One fence serves all caches.
// Nobody else can open what cpuOffline closes: that takes flush_lock or a CPU
// that is online. If the fence fails, cpuOffline returns its error, the sheaves
// are open again and nothing has happened.
//
// Preconditions: the hotplug lock is held for writing.
func (a *Allocator) cpuOffline(n int) error {
	a.flushLock.Lock()
	defer a.flushLock.Unlock()
	cores := *a.cores.Load()
	for _, k := range cores {
		pc := k.cpus[n]
		pc.mu.Lock()
		pc.off = true
		if pc.open.Load() {
			pc.area.Close()
		}
		pc.mu.Unlock()
	}
	if a.engine == RSeq && !fault.NoFence {
		if err := rseq.Fence(); err != nil {
			_ = a.cpuOnline(n) // it never fails
			return fmt.Errorf("close its sheaves: %w", err)
		}
	}
	for _, k := range cores {
		a.roomFor(k)
		var kept slabList
		pc := k.cpus[n]
		pc.mu.Lock()
		pc.node.mu.Lock()
		objs := k.collectCPU(pc, a.flushBuf[:0], &kept)
		pc.node.mu.Unlock()
		pc.mu.Unlock()
		k.giveBack(objs, &kept)
	}
	return nil
}
