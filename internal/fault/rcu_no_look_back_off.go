//go:build !fault_rcu_no_look_back

package fault

// RCUNoLookBack makes readers that count by atomics ignore the end of their
// phase. The build tag fault_rcu_no_look_back sets it.
const RCUNoLookBack = false
