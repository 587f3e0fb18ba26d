package sysfs

import (
	"bytes"
	"fmt"
	"math/bits"
)

// ParseUint reads an unsigned decimal number of at most width bits as Linux's
// kstrtoull and its narrower relatives do (lib/kstrtox.c, 6.12): an optional
// "+", digits, an optional newline, and nothing else. Data ends at its first
// NUL, like the string that the kernel makes of it.
//
// More than 64 bits is ErrRange whatever follows the digits; then anything that
// is no number is ErrSyntax; then more than width bits is ErrRange.
func ParseUint(data []byte, width int) (uint64, error) {
	text, _, _ := bytes.Cut(data, []byte{0})
	rest := bytes.TrimPrefix(text, []byte("+"))
	var value, carry uint64
	empty, tooBig := true, false
	for ; len(rest) > 0 && '0' <= rest[0] && rest[0] <= '9'; rest = rest[1:] {
		empty = false
		high, low := bits.Mul64(value, 10)
		value, carry = bits.Add64(low, uint64(rest[0]-'0'), 0)
		tooBig = tooBig || high != 0 || carry != 0
	}
	switch {
	case tooBig:
		return 0, fmt.Errorf("parse %.24q: %w", text, ErrRange)
	case empty || len(rest) > 0 && string(rest) != "\n":
		return 0, fmt.Errorf("parse %.24q: %w", text, ErrSyntax)
	case bits.Len64(value) > width:
		return 0, fmt.Errorf("parse %.24q: %w", text, ErrRange)
	}
	return value, nil
}
