//go:build !fault_free_before_drain

package fault

// FreeBeforeDrain is set by the build tag fault_free_before_drain.
const FreeBeforeDrain = false
