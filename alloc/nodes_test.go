package alloc

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"slabfs/internal/cpu"
	"slabfs/internal/pages"
)

// topologies are what a machine with CPUs A and B can stand for.
var topologies = []struct{ name, possible, nodes string }{
	{"1", "A,B", "A,B"},
	{"2", "A,B", "A;B"},
	{"2 of 64 CPUs", "0-63,A,B", "A;B,32-63"}, // and some in none
	{"4 of 64 CPUs", "0-63,A,B", "8-15;A,16-31;32-47;B,48-63"},
}

// onNodes runs the test again on each topology, as a subtest, and f there. The two CPUs
// are of different nodes where there are several.
func onNodes(t *testing.T, f func(t *testing.T, first, second int)) {
	t.Helper()
	first, second := twoCPUs(t)
	real := strings.NewReplacer("A", fmt.Sprint(first), "B", fmt.Sprint(second))
	for _, tc := range topologies {
		t.Run(tc.name, func(t *testing.T) {
			if os.Getenv(childEnv) == "" {
				t.Setenv(possibleEnv, real.Replace(tc.possible))
				t.Setenv(nodesEnv, real.Replace(tc.nodes))
			}
			if inChild(t, false) {
				f(t, first, second)
			}
		})
	}
}

// exactly runs f on a CPU, or skips where the allocator cannot tell on which one it runs.
func exactly(t *testing.T, n int, f func()) {
	t.Helper()
	exact := false
	pinned(t, n, func() {
		if exact = cpu.Current(1<<16) == n; exact {
			f()
		}
	})
	if !exact {
		t.Skip("the CPU cannot be read")
	}
}

func total(counts []uint64) (sum uint64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// checkHome fails unless all objects are of the node of a CPU.
func checkHome(t *testing.T, n int, objs []unsafe.Pointer) {
	t.Helper()
	elsewhere := 0
	for _, obj := range objs {
		if p, ok := pages.Of(obj); !ok || pages.Node(p) != cpu.NodeOf(n) {
			elsewhere++
		}
	}
	if elsewhere > 0 {
		t.Errorf("%d of %d objects that CPU %d allocated are not of node %d", elsewhere, len(objs), n, cpu.NodeOf(n))
	}
}

// Each CPU gets objects of its own node, whatever others have, and so does Bytes.
func TestNodeLocal(t *testing.T) {
	onNodes(t, func(t *testing.T, first, second int) {
		engines(t, func(t *testing.T, a *Allocator) {
			for _, size := range []int{8, 64, 500, 4096} {
				c := newCache(t, a, fmt.Sprint("local-", size), size, CacheOptions{})
				if err := c.SetRemoteNodeDefragRatio(0); err != nil {
					t.Fatal(err)
				}
				objs := make(map[int][]unsafe.Pointer)
				for range 3 {
					for _, n := range []int{first, second} {
						exactly(t, n, func() {
							objs[n] = append(objs[n], allocN(t, c, 1000)...)
							checkHome(t, n, objs[n])
							for i, obj := range objs[n] {
								if i%2 == 0 {
									c.Free(obj)
								}
							}
							bulk := make([]unsafe.Pointer, (len(objs[n])+1)/2)
							if !c.AllocBulk(bulk) {
								t.Error("AllocBulk failed")
							}
							for i := range bulk {
								objs[n][2*i] = bulk[i]
							}
							checkHome(t, n, objs[n])
						})
					}
				}
				checkRest(t, c, append(objs[first], objs[second]...))
				for _, n := range []int{first, second} {
					exactly(t, n, func() { freeAll(c, objs[n]) })
				}
				checkRest(t, c, nil)
				destroy(t, c)
			}
			for _, n := range []int{first, second} {
				exactly(t, n, func() {
					for _, size := range []int{9 << 10, 4 << 20, 20 << 20, 100 << 20} {
						if pages.GoMemory && size > 4<<20 {
							continue // there are 8 times 64 MiB, for all nodes
						}
						b := a.Bytes(size)
						checkHome(t, n, []unsafe.Pointer{unsafe.Pointer(&b[0]), unsafe.Pointer(&b[size-1])})
						a.FreeBytes(b)
					}
				})
			}
		})
	})
}

// Objects that another node's CPU frees come home: to the barn where they are many, to their slabs in a flush,
// and from both their own CPU gets them again.
func TestNodesFreesComeHome(t *testing.T) {
	onNodes(t, func(t *testing.T, first, second int) {
		engines(t, func(t *testing.T, a *Allocator) {
			c := newCache(t, a, "home", 64, CacheOptions{})
			k := c.core
			home, away := k.nodes[cpu.NodeOf(first)], k.nodes[cpu.NodeOf(second)]
			var objs []unsafe.Pointer
			for _, bulk := range []bool{false, true} {
				exactly(t, first, func() { objs = allocN(t, c, 2000) })
				slabs := c.Stats().Slabs
				exactly(t, second, func() {
					if bulk {
						c.FreeBulk(objs)
					} else {
						freeAll(c, objs)
					}
				})
				checkRest(t, c, nil)
				if !bulk && home.inBarn.Load() < int64(barnSheaves*k.sheafMax/2) {
					t.Errorf("%d objects are in their node's barn, after 2000 were freed; want it full", home.inBarn.Load())
				}
				if home != away && (away.inBarn.Load() != 0 || away.slabs.Load() != 0 || away.free.Load() != 0) {
					t.Errorf("%d objects in the barn, %d slabs and %d free objects on a node that nobody allocated from",
						away.inBarn.Load(), away.slabs.Load(), away.free.Load())
				}
				exactly(t, first, func() {
					before := total(c.Events(BarnGet))
					again := allocN(t, c, 2000)
					checkHome(t, first, again)
					if got := total(c.Events(BarnGet)) - before; got == 0 && !bulk {
						t.Error("nothing came from the barn")
					}
					if got := c.Stats().Slabs; home != away && got > slabs+1 { // the second CPU's sheaf has some
						t.Errorf("%d slabs; want %d, as before", got, slabs)
					}
					freeAll(c, again)
				})
				flush(t, c)
				checkRest(t, c, nil)
				if cached := c.Stats().Cached; cached != 0 {
					t.Errorf("%d objects cached after a flush", cached)
				}
				c.Shrink()
				if n := c.Stats().Slabs; n != 0 {
					t.Errorf("%d slabs after a shrink", n)
				}
			}
			destroy(t, c)
		})
	})
}

// What mixes objects of nodes on a sheaf keeps every figure right, and all that empties a cache
// empties each node of it.
func TestNodesEmpty(t *testing.T) {
	onNodes(t, func(t *testing.T, first, second int) {
		engines(t, func(t *testing.T, a *Allocator) {
			r := random(t)
			mix := func(c *Cache) (objs []unsafe.Pointer) {
				for _, n := range []int{first, second} {
					exactly(t, n, func() { objs = append(objs, allocN(t, c, 3000)...) })
				}
				r.Shuffle(len(objs), func(i, j int) { objs[i], objs[j] = objs[j], objs[i] })
				for i, n := range []int{first, second} {
					exactly(t, n, func() { freeAll(c, objs[i*2500:][:2500]) })
				}
				return objs[5000:]
			}
			empty := func(c *Cache) {
				t.Helper()
				c.Shrink()
				checkRest(t, c, nil)
				for _, n := range c.Stats().Nodes {
					if n != (NodeStats{Node: n.Node}) {
						t.Errorf("after a shrink: %+v", n)
					}
				}
			}
			for _, flags := range []Flags{0, TypesafeByRCU} {
				c := newCache(t, a, "mixed", 64, CacheOptions{Flags: flags})
				objs := mix(c)
				checkRest(t, c, objs)
				flush(t, c)
				checkRest(t, c, objs)
				for i, n := range c.Stats().Nodes {
					if n.Cached != 0 || n.CPUSlabs != 0 {
						t.Errorf("after a flush: %+v", n)
					}
					if most := uint64(c.MinPartial()); c.core.nodes[i].emptySlabs(c.core) > most {
						t.Errorf("node %d keeps %d empty slabs; want %d at most", n.Node, c.core.nodes[i].emptySlabs(c.core), most)
					}
				}
				freeAll(c, objs)
				empty(c)

				objs = mix(c)
				for _, n := range []int{first, second} {
					setOnline(t, a, n, false)
					checkRest(t, c, objs)
					for _, on := range []int{first, second} {
						exactly(t, on, func() {
							more := allocN(t, c, 500)
							freeAll(c, more)
						})
					}
					checkRest(t, c, objs)
					setOnline(t, a, n, true)
				}
				freeAll(c, objs)
				empty(c)

				if err := c.SetSheafCapacity(2); err != nil {
					t.Fatal(err)
				}
				objs = mix(c)
				checkRest(t, c, objs)
				freeAll(c, objs)
				destroy(t, c)
				if n := c.core.inUse() + c.core.freeObjects() + c.core.inBarns(); n != 0 {
					t.Errorf("%d objects left on nodes of a destroyed cache", n)
				}
			}
		})
	})
}

// emptySlabs returns how many slabs of the partial list have no object in use.
func (n *node) emptySlabs(k *core) (empty uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := n.partial.head; p != 0; p = slabAt(p).next {
		if slabAt(p).inUse == 0 {
			empty++
		}
	}
	return empty
}

// At the memory limit the nodes give to each other all that is free, before Alloc returns nil,
// also where remote_node_defrag_ratio forbids it while there is memory.
func TestNodesAtLimit(t *testing.T) {
	onNodes(t, func(t *testing.T, first, second int) {
		for _, flags := range []Flags{0, TypesafeByRCU} {
			engines(t, func(t *testing.T, a *Allocator) {
				a.SetMemoryLimit(256 << 10)
				c := newCache(t, a, "limit", 64, CacheOptions{Flags: flags})
				if err := c.SetRemoteNodeDefragRatio(0); err != nil {
					t.Fatal(err)
				}
				var objs, live []unsafe.Pointer
				exactly(t, first, func() { objs = fill(c) })
				if want := 256 << 10 / 64; len(objs) != want {
					t.Errorf("%d objects fit; want %d", len(objs), want)
				}
				exactly(t, first, func() {
					for i, obj := range objs { // no slab becomes empty
						if i%4 == 0 {
							live = append(live, obj)
						} else {
							c.Free(obj)
						}
					}
				})
				checkRest(t, c, live)
				exactly(t, second, func() {
					half := make([]unsafe.Pointer, (len(objs)-len(live))/2)
					if !c.AllocBulk(half) {
						t.Errorf("AllocBulk of %d objects failed with twice as many free", len(half))
						return
					}
					more := fill(c)
					live = append(append(live, half...), more...)
				})
				if len(live) != len(objs) {
					t.Errorf("%d objects at the limit; want %d", len(live), len(objs))
				}
				checkRest(t, c, live)
				exactly(t, second, func() { freeAll(c, live) })
				checkRest(t, c, nil)
				section := a.RCU().ReadLock()
				c.Shrink() // without an object, or with all slabs waiting for a grace period
				exactly(t, second, func() { live = fill(c) })
				a.RCU().ReadUnlock(section)
				if len(live) != len(objs) {
					t.Errorf("%d objects at the limit after a shrink; want %d", len(live), len(objs))
				}
				checkRest(t, c, live)
				freeAll(c, live)
				destroy(t, c)
			})
		}
	})
}

// Before a new slab is made, other nodes' slabs are used up to min_partial, so often as
// remote_node_defrag_ratio says.
func TestDefragRatio(t *testing.T) {
	onNodes(t, func(t *testing.T, first, second int) {
		engines(t, func(t *testing.T, a *Allocator) {
			if len(cpu.Nodes()) == 1 {
				return
			}
			for _, ratio := range []uint{0, 50, 100} {
				c := newCache(t, a, "ratio", 64, CacheOptions{})
				k := c.core
				if err := c.SetRemoteNodeDefragRatio(ratio); err != nil {
					t.Fatal(err)
				}
				var objs, live []unsafe.Pointer
				exactly(t, first, func() { objs = allocN(t, c, 200*k.objects) })
				exactly(t, second, func() {
					for i, obj := range objs { // two objects of each slab are live
						if _, n, _ := k.find(obj); n < 2 {
							live = append(live, objs[i])
						} else {
							c.Free(obj)
						}
					}
				})
				flush(t, c)
				home, away := k.nodes[cpu.NodeOf(first)], k.nodes[cpu.NodeOf(second)]
				partial, slabs := home.partials.Load(), home.slabs.Load()
				if partial < 190 {
					t.Fatalf("%d partial slabs; want all", partial)
				}
				exactly(t, second, func() { live = append(live, allocN(t, c, 50*k.objects)...) })
				taken := home.slabs.Load() == slabs && home.partials.Load() < partial
				if made := away.slabs.Load(); made > 0 != (ratio < 100) || taken != (ratio > 0) {
					t.Errorf("ratio %d: %d slabs made; %d partial slabs of the other node, %d before", ratio, made, home.partials.Load(), partial)
				}
				checkRest(t, c, live)
				exactly(t, second, func() { live = append(live, allocN(t, c, 200*k.objects)...) })
				if got, want := home.partials.Load(), int64(c.MinPartial()); got < want {
					t.Errorf("ratio %d: %d partial slabs of the other node are left; want at least min_partial, %d", ratio, got, want)
				}
				checkRest(t, c, live)
				freeAll(c, live)
				checkRest(t, c, nil)
				destroy(t, c)
			}
		})
	})
}

// Threads that allocate and free each other's objects lose none, whatever they and the
// CPUs go through meanwhile, and with the limit near.
func TestNodesConservation(t *testing.T) {
	onNodes(t, func(t *testing.T, first, second int) {
		for _, limit := range []int64{0, 512 << 10} {
			engines(t, func(t *testing.T, a *Allocator) {
				r := random(t)
				a.SetMemoryLimit(limit)
				c := newCache(t, a, "moving", 192, CacheOptions{})
				other := newCache(t, a, "other", 192, CacheOptions{})
				l := &ledger{tb: t}
				var x exchange
				stop := make(chan struct{})
				wait := disturb(stop,
					func(*rand.Rand) { flush(t, c) },
					func(*rand.Rand) { c.Shrink() },
					func(r *rand.Rand) { c.SetMinPartial(r.Uint64N(20)) },
					func(r *rand.Rand) {
						if err := c.SetRemoteNodeDefragRatio(r.UintN(101)); err != nil {
							t.Error(err)
						}
					},
					func(r *rand.Rand) {
						if err := c.SetSheafCapacity(r.UintN(uint(c.core.sheafMax))); err != nil {
							t.Error(err)
						}
					},
					func(*rand.Rand) {
						s := c.Stats()
						if slabs := s.Slabs * s.ObjectsPerSlab; s.Objects > slabs || s.Objects < 0 {
							t.Errorf("%+v", s)
						}
					},
					plug(t, a))
				var wg sync.WaitGroup
				for g := range 4 {
					r := rand.New(rand.NewPCG(r.Uint64(), uint64(g)))
					wg.Go(func() {
						for range 4 { // on one CPU, then on the other
							pinned(t, []int{first, second}[r.IntN(2)], func() { work(c, l, &x, r, scaled(20_000)) })
						}
					})
				}
				within("conservation on nodes", func() {
					wg.Wait()
					close(stop)
					wait()
				})
				plugAll(t, a)
				x.drain(c, l)
				l.check()
				checkRest(t, c, nil)
				destroy(t, c)
				destroy(t, other)
				checkUnlocked(a)
			})
		}
	})
}

// Where the CPU cannot be read, a slab is still of the node of the CPU that is taken for the one at hand,
// and there the next refills find it; and sequences find a sheaf that is open.
func TestUnreadableCPU(t *testing.T) {
	for _, tc := range []struct{ possible, nodes string }{
		{"0-63", oneNode},
		{"0-63", "0-15;16-63"},
		{"0-1,1000", "0-1;1000"},
	} {
		t.Run(tc.possible+" "+tc.nodes, func(t *testing.T) {
			if os.Getenv(childEnv) == "" {
				t.Setenv(possibleEnv, tc.possible)
				t.Setenv(nodesEnv, tc.nodes)
			}
			if !inChild(t, false) {
				return
			}
			cpu.CanRead.Store(2) // no
			engines(t, func(t *testing.T, a *Allocator) {
				c := newCache(t, a, "unreadable", 8, CacheOptions{})
				if err := c.SetRemoteNodeDefragRatio(0); err != nil {
					t.Fatal(err)
				}
				objs := allocN(t, c, 100*c.core.objects)
				if s := c.Stats(); s.Slabs > 200 { // a CPU or two more may keep some
					t.Errorf("%d slabs for the objects of 100", s.Slabs)
				}
				if fast := total(c.Events(AllocFastpath)); fast < uint64(len(objs)/2) {
					t.Errorf("%d of %d objects came from a sheaf", fast, len(objs))
				}
				checkRest(t, c, objs)
				freeAll(c, objs)
				checkRest(t, c, nil)
				destroy(t, c)
			})
		})
	}
}
