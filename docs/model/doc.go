// Package model holds a model of destroy for spin, a model checker, and has no
// code: its tests let spin look for counter-examples, where spin is installed, and
// check that the model's steps are those of package alloc.
package model
