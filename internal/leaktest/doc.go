// Package leaktest tells tests, and the servers that they start, which goroutines are
// left of what has ended.
//
//	Snapshot  the goroutines of a moment
//	Left      waits until no other one runs code of this module
package leaktest
