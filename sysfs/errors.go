package sysfs

import "errors"

// The errors of this package. They are always wrapped with the name they are
// about.
var (
	ErrInvalid  = errors.New("invalid name or definition")
	ErrExist    = errors.New("name is taken")
	ErrGone     = errors.New("removed")
	ErrNoMethod = errors.New("the attribute has no function for this") // no Show or Store

	ErrSyntax = errors.New("not a decimal number")
	ErrRange  = errors.New("number out of range")
)
