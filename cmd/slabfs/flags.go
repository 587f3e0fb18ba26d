package main

import (
	"errors"
	"strconv"
	"time"
)

// Flags with a type of their own, which the usage shows.

// A duration is a flag that takes a positive time.
type duration time.Duration

func (d *duration) String() string { return time.Duration(*d).String() }
func (d *duration) Type() string   { return "duration" }

func (d *duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil || v <= 0 {
		return errors.New("want a duration above 0, such as 500ms, 10s or 1h")
	}
	*d = duration(v)
	return nil
}

// A seed is a flag that takes the seed of a random generator.
type seed uint64

func (n *seed) String() string { return strconv.FormatUint(uint64(*n), 10) }
func (n *seed) Type() string   { return "number" }

func (n *seed) Set(s string) error {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return errors.New("want a whole number from 0 to 18446744073709551615")
	}
	*n = seed(v)
	return nil
}
