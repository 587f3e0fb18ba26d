//go:build !race

#include "go_asm.h"
#include "textflag.h"

// func unlock(s *Spin)
//
// A plain store is enough. The processor makes a thread's stores visible in
// order, after its earlier loads. So a CPU that sees the store sees the whole
// section done. atomic.StoreUint32 would also wait until the store is visible,
// before any later load.
TEXT ·unlock(SB), NOSPLIT|NOFRAME, $0-8
	CMPL ·Special+const_aloneAt(SB), $0
	JNE  other
	MOVQ s+0(FP), DI
	MOVL $0, Spin_word(DI) // the low half
	RET
other:
	JMP ·unlockSpecial(SB)

// func pause()
//
// It takes some 400 ns.
TEXT ·pause(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $10, CX
again:
	PAUSE
	SUBL $1, CX
	JNE  again
	RET
