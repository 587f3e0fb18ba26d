//go:build !linux

package slabattr

func fakeNodes() {}
