package stress

// What the processes of a run tell each other.

// A message is what the world tells the judge: one of these.
type message struct {
	Hello   int      `json:",omitempty"` // the mount is there, the actors begin; the world's process
	State   *state   `json:",omitempty"` // 20 times a second
	Example *example `json:",omitempty"` // comes before the first state that counts it
	Order   string   `json:",omitempty"` // the first report of lockdep
	Stacks  string   `json:",omitempty"` // of all goroutines, as asked for
	Left    *left    `json:",omitempty"` // when the actors have ended and have freed everything
	Bye     bool     `json:",omitempty"` // everything is closed and unmounted
}

// What the judge tells the world, each on a line. When there is nobody to tell
// anything any more, the world ends at once.
const (
	askEnd    = "end"
	askStacks = "stacks"
)

// A state is all that the world has counted, and what it is at.
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

// An opState is a line of the table.
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
	N     uint64 // among those of its actor
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

// left is what should be nothing, and what should be the same three times.
type left struct {
	Objects               map[string]int // live ones, by cache
	Files, Second, Caches []string       // what the mount, the second tree and the allocator show
	Memory                int64          // bytes in use by the closed allocator
	Closed                bool           // it is
}

// A verdict is what the judge tells the process that started it.
type verdict struct {
	Begun      bool     // the world was there
	Violations int      //
	Missing    []string // what did not happen and should have
	Silent     bool     // the world does not answer
	Ended      bool     // the world has ended in order
	Lost       bool     // it has ended before its time
}
