//go:build !linux || !amd64

package cpu

func readCPU() uint32 { panic("cpu: read without a probe") }

func probeRead() bool { return false }
