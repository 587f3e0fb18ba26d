//go:build fault_rcu_no_fence

package fault

// RCUNoFence is set by the build tag fault_rcu_no_fence.
const RCUNoFence = true
