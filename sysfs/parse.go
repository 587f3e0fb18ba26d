package sysfs

import (
	"bytes"
	"fmt"
	"math/bits"
	"strings"
)

// ParseBool reads a switch as Linux's kstrtobool does (lib/kstrtox.c, 6.12), in either
// case and whatever follows: 1, y, t, on; 0, n, f, of. All else is ErrInvalid.
func ParseBool(data []byte) (bool, error) {
	text, _, _ := bytes.Cut(data, []byte{0})
	word := string(bytes.ToLower(text[:min(len(text), 2)]))
	switch {
	case word == "on", word != "" && strings.Contains("1yt", word[:1]):
		return true, nil
	case word == "of", word != "" && strings.Contains("0nf", word[:1]):
		return false, nil
	}
	return false, fmt.Errorf("parse %.24q, which should be 0 or 1: %w", text, ErrInvalid)
}

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
