package main

import (
	"fmt"
	"os"
)

//go:generate go run . ../deadlock.svg

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "picture: want the name of the file to write")
		os.Exit(1)
	}
	if err := os.WriteFile(os.Args[1], draw(deadlock), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

// A sequence is parties and their steps, in order of time.
type sequence struct {
	parties []party
	steps   []step
	end     string // what is true from then on
}

type party struct{ name, command string }

// A step is something that one party does.
type step struct {
	party    int
	text     []string // lines
	takes    int      // how many locks, which it holds from here on
	waits    bool     // for waitsFor, from here on
	waitsFor int
}

// The parties of the deadlock, from left to right.
const (
	store = iota
	destroy
	hotplug
)

var deadlock = sequence{
	parties: []party{
		store:   {"store", "echo 0 > cpu_partial"},
		destroy: {"destroy", "kmem_cache_destroy()"},
		hotplug: {"hotplug", "echo 0 > cpu1/online"},
	},
	steps: []step{
		{party: store, text: []string{"takes an active", "reference of the file"}, takes: 1},
		{party: destroy, text: []string{"reads cpu_hotplug_lock,", "locks slab_mutex"}, takes: 2},
		{party: destroy, text: []string{"drains: waits until nobody", "has an active reference"}, waits: true, waitsFor: store},
		{party: hotplug, text: []string{"wants to write cpu_hotplug_lock:", "queued until no reader is left"}, waits: true, waitsFor: destroy},
		{party: store, text: []string{"wants to read", "cpu_hotplug_lock: waits", "behind the queued writer"}, waits: true, waitsFor: hotplug},
	},
	end: "Each waits for the next. Nobody goes on.",
}
