//go:build withnet

package main

import "net"

var _, _ = net.LookupPort("tcp", "http") // links the C library's resolver where cgo is on
