//go:build !linux

package rcu

import (
	"math/rand/v2"
	"runtime"
)

func move(*rand.Rand) { runtime.Gosched() }

func pin(int) (unpin func()) { return func() {} }
