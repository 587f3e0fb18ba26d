package stress

// What the processes of a run tell each other.

// A message is what the world tells the judge: one of these fields. Bye comes
// with a State.
type message struct {
	Hello   int      `json:",omitempty"` // process id of the world: the mount is ready and the actors begin
	State   *state   `json:",omitempty"` // 20 times a second
	Example *example `json:",omitempty"` // comes before the first state that counts it
	Order   string   `json:",omitempty"` // the first report of lockdep
	Stacks  string   `json:",omitempty"` // of all goroutines, as asked for
	Left    *left    `json:",omitempty"` // when the actors have ended and freed everything
	Bye     bool     `json:",omitempty"` // in the last state: everything is closed and unmounted
}

// Requests of the judge to the world, each on a line. If the judge is gone, the
// world ends at once.
const (
	askEnd    = "end"
	askStacks = "stacks"
)

// A state is what the world has counted, and the calls that are under way.
type state struct {
	Ops      [ops]opState
	Counters [counters]uint64
	Calls    []call
}

// count returns how many operations have ended.
func (s *state) count() (n uint64) {
	for o := range s.Ops {
		n += s.Ops[o].count()
	}
	return n
}

// An opState is one kind of operation, and so a line of the table.
type opState struct {
	Outcomes [outcomes]uint64
	Slowest  int64 // nanoseconds
}

func (o *opState) count() (n uint64) {
	for _, k := range o.Outcomes {
		n += k
	}
	return n
}

// A call is an operation under way.
type call struct {
	Actor int
	N     uint64 // among the calls of its actor
	Op    op
	What  string
}

// An example tells how an operation ended, or what a counter counted.
type example struct {
	Op      op
	Outcome outcome
	Counter counter // if Op is ops
	What    string
	Error   string `json:",omitempty"`
}

// left lists what should be nothing, and three lists that should be equal.
type left struct {
	Objects               map[string]int // live objects, by cache
	Files, Second, Caches []string       // what the mount, the second tree and the allocator show
	Memory                int64          // bytes in use by the closed allocator
	Closed                bool           // the allocator is closed
}

// A verdict is what the judge tells the process that started it.
type verdict struct {
	Begun      bool     // the world began
	Violations int      //
	Missing    []string // proofs that are zero
	Silent     bool     // the world does not answer
	Ended      bool     // the world has ended in order
	Lost       bool     // the world ended too early
}
