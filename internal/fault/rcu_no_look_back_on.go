//go:build fault_rcu_no_look_back

package fault

// RCUNoLookBack is set by the build tag fault_rcu_no_look_back.
const RCUNoLookBack = true
