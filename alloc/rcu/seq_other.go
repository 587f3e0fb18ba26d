//go:build !linux || !amd64 || race

package rcu

import "slabfs/internal/percpu"

func readLock(d *Domain) (token uint64) { return readLockSlow(d) }

func readUnlock(d *Domain, token uint64) { readUnlockSlow(d, token) }

func startSequences() error { return percpu.StartSequences(nil) }
