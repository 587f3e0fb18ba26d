#include "textflag.h"

// func goroutine() uintptr
//
// The address of the runtime's g: unique among goroutines that live. No offset
// into it is used.
TEXT ·goroutine(SB), NOSPLIT, $0-8
	MOVQ (TLS), AX
	MOVQ AX, ret+0(FP)
	RET
