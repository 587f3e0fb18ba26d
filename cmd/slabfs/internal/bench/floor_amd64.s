#include "textflag.h"

// func floorAlloc(f *floor)
TEXT ·floorAlloc(SB), NOSPLIT|NOFRAME, $0-8
	RET

// func floorFree(f *floor, obj uintptr)
TEXT ·floorFree(SB), NOSPLIT|NOFRAME, $0-16
	RET
