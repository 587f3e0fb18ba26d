package sysfs

import "errors"

// What this package returns, always wrapped with the name it is about.
var (
	ErrInvalid  = errors.New("invalid name or definition")
	ErrExist    = errors.New("name is taken")
	ErrGone     = errors.New("removed")
	ErrNoMethod = errors.New("the attribute has no function for this") // reading without Show, writing without Store

	ErrSyntax = errors.New("not a decimal number")
	ErrRange  = errors.New("number out of range")
)
