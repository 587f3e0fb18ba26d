//go:build fault_no_drain

package fault

// NoDrain is set by the build tag fault_no_drain.
const NoDrain = true
