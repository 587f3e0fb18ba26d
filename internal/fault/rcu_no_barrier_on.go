//go:build fault_rcu_no_barrier

package fault

// RCUNoBarrier is set by the build tag fault_rcu_no_barrier.
const RCUNoBarrier = true
