//go:build fault_no_fence

package fault

// NoFence closes sheaves without a fence. The build tag fault_no_fence sets it.
const NoFence = true
