package main

import "testing"

func TestByteSize(t *testing.T) {
	for _, tc := range []struct {
		text string
		want byteSize
		ok   bool
	}{
		{"0", 0, true},
		{"4096", 4096, true},
		{"1K", 1 << 10, true},
		{"1k", 1 << 10, true}, // as in the files
		{"64M", 64 << 20, true},
		{"3G", 3 << 30, true},
		{"2T", 2 << 40, true},
		{"8388607T", 8388607 << 40, true},
		{"8388608T", 0, false},
		{"9223372036854775808", 0, false},
		{"", 0, false},
		{"M", 0, false},
		{"-1", 0, false},
		{"1.5G", 0, false},
		{"1X", 0, false},
		{"1 K", 0, false},
	} {
		var got byteSize
		if err := got.Set(tc.text); got != tc.want || (err == nil) != tc.ok {
			t.Errorf("Set(%q): %d, %v; want %d, success %v", tc.text, got, err, tc.want, tc.ok)
		}
	}
}
