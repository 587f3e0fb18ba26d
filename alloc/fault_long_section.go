//go:build fault_long_section

package alloc

const faultExtra = 5 // length of movq %rax,ret(%rsp) in alloc; in free, more than the length of ret
