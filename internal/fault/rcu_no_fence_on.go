//go:build fault_rcu_no_fence

package fault

// RCUNoFence makes grace periods not fence. The build tag fault_rcu_no_fence
// sets it.
const RCUNoFence = true
