// Package cpu knows the machine's CPUs, and holds the hotplug lock of one
// allocator.
//
//	Mask      a set of CPU numbers, which may be sparse; printed and parsed as cpulists
//	Current   the CPU that this thread runs on, as a hint
//	Node      a memory node, and the CPUs that are nearest to it
//	Hotplug   cpu_hotplug_lock and the CPUs that are online for one allocator
//	State     a step that a CPU takes on its way online, and undoes on its way offline
//
// Hotplug here is the allocator's own notion. Threads of the process still run
// on a CPU that was set offline, but the allocator's caches then keep nothing
// there.
package cpu
