//go:build fault_no_second_fence

package fault

// NoSecondFence lets a destroyed cache's place be used again without a fence.
// The build tag fault_no_second_fence sets it.
const NoSecondFence = true
