package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"slabfs/sysfs"
)

// parseBytes parses a number of bytes as the files do.
func parseBytes(s string) (int64, error) {
	n, err := sysfs.ParseBytes([]byte(s), 63)
	if err != nil {
		return 0, errors.New("want a number of bytes, such as 67108864 or 64M, with K, M, G or T")
	}
	return int64(n), nil
}

// A byteSize is a flag that takes a number of bytes, with an optional unit.
type byteSize int64

func (b *byteSize) String() string { return strconv.FormatInt(int64(*b), 10) }
func (b *byteSize) Type() string   { return "SIZE" }

func (b *byteSize) Set(s string) error {
	n, err := parseBytes(s)
	if err == nil {
		*b = byteSize(n)
	}
	return err
}

// byteSizes is a flag that takes several numbers of bytes. Its first use
// replaces the default, as with pflag's own lists, and later uses add to it.
type byteSizes struct {
	list *[]int
	set  bool
}

func (b *byteSizes) String() string {
	if b.list == nil {
		return ""
	}
	return strings.Trim(fmt.Sprint(*b.list), "[]")
}

func (b *byteSizes) Type() string { return "SIZE,..." }

func (b *byteSizes) Set(list string) error {
	var sizes []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := parseBytes(s)
		if err != nil {
			return err
		}
		sizes = append(sizes, int(min(n, math.MaxInt)))
	}
	if b.set {
		sizes = append(*b.list, sizes...)
	}
	*b.list, b.set = sizes, true
	return nil
}
