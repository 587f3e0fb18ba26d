package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"slabfs/alloc"
)

// A Peer is an allocator that this program does not link. Another program,
// Config.Program, links it and measures for this one. cmd/slabfs/cpeers is such
// a program, so that this one needs no C compiler.
type Peer struct {
	Name, What string
	Loops      bool // only for workloads that run in loops, because single calls of Alloc or Free say nothing about it

	Open   func(size int) (PeerHeap, error)    `json:"-"` // objects of one size
	Plain  func(b *testing.B)                  `json:"-"` // pairs of 64 bytes as a plain Go benchmark
	Native map[string]func(threads int) Native `json:"-"` // the workloads that the peer runs in its own way
}

// A Native is a workload on threads of a peer's own, where Go has goroutines.
// It does what the workload's file says.
type Native interface {
	Prepare()                               // before each run, not measured
	Run(d time.Duration) (n int, err error) // n operations in about d, measured by the clock
	Clean()                                 // after each run
}

// nativeCell returns the cell of a native workload.
func nativeCell(n Native) *cell {
	c := &cell{
		prepare: func() error {
			n.Prepare()
			return nil
		},
		clean: func() error {
			n.Clean()
			return nil
		},
	}
	c.measure = c.timeRun(n.Run)
	return c
}

// A PeerHeap is objects of one size; see heap.
type PeerHeap interface {
	Pairs(n int)
	Fill(objs []ref)
	Drain(objs []ref)
	Alloc() ref
	Free(obj ref)
	Trim()
	Close() error
}

// Register adds the columns of peers.
func Register(peers ...Peer) {
	for _, p := range peers {
		columns = slices.Insert(columns, len(columns)-1, &column{name: p.Name, what: p.What, loops: p.Loops, native: p.Native,
			heap: func(_ *alloc.Allocator, _ string, size int) (heap, error) {
				h, err := p.Open(size)
				return peerHeap{h}, err
			},
			plain: func(*alloc.Allocator, string) (func(*testing.B), func() error, error) { return p.Plain, nothing, nil },
		})
	}
}

type peerHeap struct{ h PeerHeap }

func (p peerHeap) pairs(n int)      { p.h.Pairs(n) }
func (p peerHeap) fill(objs []ref)  { p.h.Fill(objs) }
func (p peerHeap) drain(objs []ref) { p.h.Drain(objs) }
func (p peerHeap) alloc() ref       { return p.h.Alloc() }
func (p peerHeap) free(obj ref)     { p.h.Free(obj) }
func (p peerHeap) trim()            { p.h.Trim() }
func (p peerHeap) close() error     { return p.h.Close() }

// PeersOf asks a program for its peers, which Register then adds.
func PeersOf(program string) ([]Peer, error) {
	out, err := exec.Command(program, "peers").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			err = errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("bench: ask %q for its peers: %w", program, err)
	}
	var peers []Peer
	if err := json.Unmarshal(out, &peers); err != nil {
		return nil, fmt.Errorf("bench: %q does not bring peers: %w", program, err)
	}
	names, _ := Allocators()
	for _, p := range peers {
		if slices.Contains(names, p.Name) {
			return nil, fmt.Errorf("bench: %q brings %q, which exists already", program, p.Name)
		}
	}
	return peers, nil
}

// Serve is the whole work of such a program: it answers PeersOf, or measures.
func Serve(ctx context.Context, args []string, in io.Reader, out io.Writer, peers ...Peer) error {
	switch {
	case slices.Equal(args, []string{"peers"}):
		return json.NewEncoder(out).Encode(peers)
	case slices.Equal(args, []string{"bench", "worker"}):
		Register(peers...)
		return Work(ctx, in, out)
	}
	return errors.New("this program works for `slabfs bench --peers`, and does nothing by itself")
}
