//go:build fault_long_section

package alloc

const faultExtra = 5 // movq %rax,ret(%rsp) of alloc; more than the ret of free
