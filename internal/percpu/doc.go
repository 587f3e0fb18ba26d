// Package percpu holds each CPU's arrays of free objects.
//
//	area      one cache's array on one CPU: header, cap, floor, slots
//	region    the areas of all caches on one CPU; each possible CPU has one region
//	place     where a cache's area lies in every region: the same offset in each
//	counters  eight words at a place, for sequences that only count
//
// An area begins with three words, and the slots follow:
//
//	header  level in the low 16 bits, above it the number of pops, which may wrap
//	cap     a push fails at level >= cap
//	floor   a pop fails at level <= floor
//	slots   slots[0:level] are free objects; the last of them is popped next
//
// Pop and Push commit by one store to the header. The limits cap and floor
// close a sheaf from outside. floor = 0xffff and cap = 0 make both operations
// fail, and the closer then owns the header and the slots.
//
// A zeroed area is closed as well (0 <= 0 and 0 >= 0). The first slow path on a
// CPU opens the area there, so only CPUs that are used cost memory. The area at
// offset 0 is never opened and never written.
//
// The methods Pop, Push, PopBulk and PushBulk of Area are for the lock engine.
// The caller holds the lock of the area's CPU. That lock excludes closers as
// well, so Close needs no fence there.
package percpu
