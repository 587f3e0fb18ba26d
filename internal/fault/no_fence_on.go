//go:build fault_no_fence

package fault

// NoFence is set by the build tag fault_no_fence.
const NoFence = true
