// Command guest is a plugin for host.
package main

import (
	"slabfs/alloc"
	"slabfs/internal/rseq/testdata/work"
)

// Run does the work in the plugin.
func Run() (string, error) { return work.Run(nil) }

// Use uses a cache of the host. The calls are inlined here, into code of the plugin.
func Use(c *alloc.Cache, rounds int) { work.Use(c, rounds) }

func main() {}
