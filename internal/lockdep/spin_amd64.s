//go:build !race

#include "go_asm.h"
#include "textflag.h"

// func unlock(s *Spin)
//
// A plain store: this processor shows a thread's stores in their order, and lets none of
// them overtake an earlier load, so whoever sees it sees the section done. What
// atomic.StoreUint32 adds is to wait until it is seen, before any later load.
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
// Some 400 ns.
TEXT ·pause(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $10, CX
again:
	PAUSE
	SUBL $1, CX
	JNE  again
	RET
