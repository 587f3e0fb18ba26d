//go:build !fault_rcu_no_wait

package fault

// RCUNoWait is set by the build tag fault_rcu_no_wait.
const RCUNoWait = false
