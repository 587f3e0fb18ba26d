//go:build fault_no_second_fence

package fault

// NoSecondFence is set by the build tag fault_no_second_fence.
const NoSecondFence = true
