#include "textflag.h"

// func goroutine() uintptr
//
// The address of the runtime's g. It is unique among live goroutines. No offset
// into g is used.
TEXT ·goroutine(SB), NOSPLIT, $0-8
	MOVQ (TLS), AX
	MOVQ AX, ret+0(FP)
	RET
