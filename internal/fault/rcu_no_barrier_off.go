//go:build !fault_rcu_no_barrier

package fault

// RCUNoBarrier releases typesafe-by-RCU caches before their callbacks have run.
// The build tag fault_rcu_no_barrier sets it.
const RCUNoBarrier = false
