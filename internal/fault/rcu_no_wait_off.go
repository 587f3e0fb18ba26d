//go:build !fault_rcu_no_wait

package fault

// RCUNoWait makes grace periods not wait for readers. The build tag
// fault_rcu_no_wait sets it.
const RCUNoWait = false
