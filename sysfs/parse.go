package sysfs

import (
	"bytes"
	"fmt"
	"math/bits"
	"strings"
)

// ParseBool reads a switch as Linux's kstrtobool does (lib/kstrtox.c, 6.12): 1,
// y, t, on; 0, n, f, of. It accepts either case, and ignores the rest of the
// text. For any other text the error wraps ErrInvalid.
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

// ParseUint reads an unsigned decimal number of at most width bits, as Linux's
// kstrtoull and its narrower relatives do (lib/kstrtox.c, 6.12): an optional
// "+", digits, an optional newline, and nothing else. Data ends at its first
// NUL, like a string of the kernel.
//
// A number of more than 64 bits is ErrRange, even if other text follows the
// digits. Otherwise text that is not a number is ErrSyntax, and a number of
// more than width bits is ErrRange.
func ParseUint(data []byte, width int) (uint64, error) { return parse(data, width, "") }

// ParseBytes is ParseUint for a number of bytes, which may have a unit: K, M, G
// or T, in either case. Each unit is 1024 times the one before, as in Linux's
// memparse (lib/cmdline.c, 6.12). Every file and every command option that
// takes bytes uses ParseBytes.
func ParseBytes(data []byte, width int) (uint64, error) { return parse(data, width, "KMGT") }

// parse is ParseUint with at most one unit letter after the digits.
func parse(data []byte, width int, units string) (uint64, error) {
	text, _, _ := bytes.Cut(data, []byte{0})
	rest := bytes.TrimPrefix(text, []byte("+"))
	var value uint64
	empty, tooBig := true, false
	times := func(factor, plus uint64) {
		high, low := bits.Mul64(value, factor)
		sum, carry := bits.Add64(low, plus, 0)
		value, tooBig = sum, tooBig || high != 0 || carry != 0
	}
	for ; len(rest) > 0 && '0' <= rest[0] && rest[0] <= '9'; rest = rest[1:] {
		empty = false
		times(10, uint64(rest[0]-'0'))
	}
	if len(rest) > 0 && !empty {
		if i := strings.IndexByte(units, rest[0]&^0x20); i >= 0 {
			times(1<<(10*(i+1)), 0)
			rest = rest[1:]
		}
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
