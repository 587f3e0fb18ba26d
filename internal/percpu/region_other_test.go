//go:build !linux

package percpu

func prepare() {}
