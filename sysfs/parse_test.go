package sysfs

import (
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"testing"
)

// As kstrtobool: what follows is of no interest.
func TestParseBool(t *testing.T) {
	for want, texts := range map[string][]string{
		"true":  {"1", "1\n", "1 0", "11", "1x", "y", "Y", "yes\n", "yno", "t", "True", "on", "ON\n", "oN", "onoff"},
		"false": {"0", "0\n", "00", "01", "0x1", "n", "N", "no", "nyes", "f", "False\n", "of", "off", "OFF\n", "oF", "offon"},
		"error": {"", "\n", " 1", "\n1", "+1", "-1", "2", "9", "a", "o", "o\n", "o1", "xon", "\x001", "o\x00n", "\x11", "\x10", "\xff\xfe", "\u0130", "ı"},
	} {
		for _, text := range texts {
			got, err := ParseBool([]byte(text))
			if ok := fmt.Sprint(got) == want && err == nil || want == "error" && !got && errors.Is(err, ErrInvalid); !ok {
				t.Errorf("ParseBool(%q) = %v, %v; want %s", text, got, err, want)
			}
		}
	}
}

func TestParseUint(t *testing.T) {
	nines := strings.Repeat("9", 40)
	for _, tc := range []struct {
		text  string
		width int
		want  uint64
		err   error
	}{
		{"", 32, 0, ErrSyntax},
		{"\n", 32, 0, ErrSyntax},
		{" ", 32, 0, ErrSyntax},
		{"\x00", 32, 0, ErrSyntax},
		{"abc", 32, 0, ErrSyntax},
		{"+", 32, 0, ErrSyntax},
		{"++1", 32, 0, ErrSyntax},
		{"-1", 32, 0, ErrSyntax},
		{"-0", 32, 0, ErrSyntax},
		{"0x10", 32, 0, ErrSyntax},
		{" 5", 32, 0, ErrSyntax},
		{"5 6", 32, 0, ErrSyntax},
		{"5 ", 32, 0, ErrSyntax},
		{"5\r\n", 32, 0, ErrSyntax},
		{"5\n\n", 32, 0, ErrSyntax},
		{"5x", 32, 0, ErrSyntax},
		{"1e2", 32, 0, ErrSyntax},
		{"1_20", 32, 0, ErrSyntax},
		{"1 1", 32, 0, ErrSyntax},
		{"\n1", 32, 0, ErrSyntax},
		{"true", 32, 0, ErrSyntax},
		{"1" + strings.Repeat("x", 4095), 32, 0, ErrSyntax},

		{"99999999999", 32, 0, ErrRange},
		{"99999999999", 64, 99999999999, nil},
		{"4294967295", 32, 4294967295, nil},
		{"4294967296", 32, 0, ErrRange},
		{"18446744073709551615", 64, 18446744073709551615, nil},
		{"18446744073709551616", 32, 0, ErrRange},
		{"18446744073709551616", 64, 0, ErrRange},
		{nines, 32, 0, ErrRange},
		{nines, 64, 0, ErrRange},

		// 64 bits come before junk, junk before a narrower type.
		{"18446744073709551616abc", 32, 0, ErrRange},
		{nines + " x", 64, 0, ErrRange},
		{"99999999999abc", 32, 0, ErrSyntax},
		{"99999999999 ", 32, 0, ErrSyntax},

		{"0", 32, 0, nil},
		{"101", 32, 101, nil},
		{"+101\n", 32, 101, nil},
		{"120", 32, 120, nil},
		{"120\n", 32, 120, nil},
		{"+120", 32, 120, nil},
		{"0120", 32, 120, nil},
		{"+000120\n", 32, 120, nil},
		{"120\x00", 32, 120, nil},
		{"120\n\x00junk", 32, 120, nil},
		{"120\x00\n99999999999999999999999", 32, 120, nil},
		{"12\x000", 32, 12, nil},
		{strings.Repeat("0", 4093) + "120", 32, 120, nil},
		{"255", 8, 255, nil},
		{"256", 8, 0, ErrRange},
	} {
		got, err := ParseUint([]byte(tc.text), tc.width)
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("ParseUint(%.40q, %d) = %d, %v; want %d, %v", tc.text, tc.width, got, err, tc.want, tc.err)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for _, tc := range []struct {
		text  string
		width int
		want  uint64
		err   error
	}{
		{"0", 63, 0, nil},
		{"4096\n", 63, 4096, nil},
		{"+1K", 63, 1 << 10, nil},
		{"64M\n", 63, 64 << 20, nil},
		{"64m", 63, 64 << 20, nil},
		{"3g", 63, 3 << 30, nil},
		{"2T", 63, 2 << 40, nil},
		{"0T", 63, 0, nil},
		{"1K\x00M", 63, 1 << 10, nil},
		{"16777215T", 64, 16777215 << 40, nil},

		{"16777216T", 64, 0, ErrRange},
		{"8388608T", 63, 0, ErrRange},
		{"4G", 32, 0, ErrRange},
		{"18446744073709551615K", 64, 0, ErrRange},
		{"18446744073709551616", 64, 0, ErrRange},

		{"", 63, 0, ErrSyntax},
		{"M", 63, 0, ErrSyntax},
		{"+K", 63, 0, ErrSyntax},
		{"-1K", 63, 0, ErrSyntax},
		{"1KB", 63, 0, ErrSyntax},
		{"1KK", 63, 0, ErrSyntax},
		{"1 K", 63, 0, ErrSyntax},
		{"1.5G", 63, 0, ErrSyntax},
		{"1P", 63, 0, ErrSyntax},
		{"1\x0b", 63, 0, ErrSyntax}, // a K less the bits of a letter
		{"3X", 63, 0, ErrSyntax},
	} {
		got, err := ParseBytes([]byte(tc.text), tc.width)
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("ParseBytes(%q, %d) = %d, %v; want %d, %v", tc.text, tc.width, got, err, tc.want, tc.err)
		}
	}
}

var (
	number = regexp.MustCompile(`^\+?[0-9]+\n?$`)
	prefix = regexp.MustCompile(`^\+?([0-9]+)`)
)

// FuzzParseUint compares with a grammar and numbers without a limit.
func FuzzParseUint(f *testing.F) {
	for _, s := range []string{"120\n", "+0", "18446744073709551616x", "5\n\n", "7\x00x", "-1", ""} {
		f.Add([]byte(s), uint8(32))
	}
	f.Fuzz(func(t *testing.T, data []byte, w uint8) {
		width := 1 + int(w)%64
		text, _, _ := strings.Cut(string(data), "\x00")
		value := new(big.Int)
		if m := prefix.FindStringSubmatch(text); m != nil {
			value.SetString(m[1], 10)
		}
		want, wantErr := value.Uint64(), error(nil)
		switch {
		case value.BitLen() > 64:
			want, wantErr = 0, ErrRange
		case !number.MatchString(text):
			want, wantErr = 0, ErrSyntax
		case value.BitLen() > width:
			want, wantErr = 0, ErrRange
		}
		if got, err := ParseUint(data, width); got != want || !errors.Is(err, wantErr) {
			t.Errorf("ParseUint(%q, %d) = %d, %v; want %d, %v", data, width, got, err, want, wantErr)
		}
	})
}
