package stress

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// A judgeConfig is what the judge is told: nothing of what the world is told to do wrong.
type judgeConfig struct {
	Duration, Deadline time.Duration
	Seed               uint64
	Actors             Actors
	Progress           bool // standard error is a terminal
}

// A judge follows a world and says what it did wrong.
type judge struct {
	config   judgeConfig
	out, err io.Writer
	ask      func(string) // the world

	world    int // its process; 0: not there yet
	began    time.Time
	clock    time.Duration      // see look
	heard    time.Duration      // when the last state came
	state    state              // the last one
	under    map[int]underWay   // by actor
	examples map[count][]string // what the world told of a count
	left     []*left
	order    string        // lockdep's report
	found    []finding     // those that do not follow from the state
	ending   bool          // the world was asked to end
	endAt    time.Duration // when
	stacks   time.Duration // when they were asked for; 0: not yet
	rate     []float64     // operations in each full second
	lastRate rateMark      // when the last began
	shown    time.Time     // the progress
	verdict  verdict
}

// A count is one of the numbers in a state.
type count struct {
	op      op
	outcome outcome
	counter counter // if op is ops
}

// underWay is a call, and when it was first seen.
type underWay struct {
	call
	since time.Duration
}

type rateMark struct {
	at  time.Time
	ops uint64
}

// A finding is one way in which the run went wrong.
type finding struct {
	what  string
	count uint64
	why   []string
	told  bool // it was described when it was found
	op    op   // whose it is; ops: nobody's
}

// runJudge is the judge's process. The world's messages come in on standard input,
// what it asks for goes to descriptor 3, the verdict to descriptor 4.
func runJudge(c judgeConfig) error {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM)
	commands, verdicts := os.NewFile(3, "commands"), os.NewFile(4, "verdict")
	j := newJudge(c, os.Stdout, os.Stderr, func(s string) { fmt.Fprintln(commands, s) })
	j.follow(os.Stdin, stop)
	if !j.verdict.Begun {
		return json.NewEncoder(verdicts).Encode(j.verdict)
	}
	j.report()
	return json.NewEncoder(verdicts).Encode(j.verdict)
}

func newJudge(c judgeConfig, out, err io.Writer, ask func(string)) *judge {
	return &judge{config: c, out: out, err: err, ask: ask, under: make(map[int]underWay), examples: make(map[count][]string)}
}

// follow listens to the world until it has ended, or there is no sense in waiting for that.
// The first signal has it end the world, the second ends it.
func (j *judge) follow(world io.Reader, stop <-chan os.Signal) {
	const look, most = 50 * time.Millisecond, 250 * time.Millisecond
	messages := make(chan message)
	go func() {
		defer close(messages)
		for dec := json.NewDecoder(bufio.NewReader(world)); ; {
			var m message
			if dec.Decode(&m) != nil {
				return
			}
			messages <- m
		}
	}()
	tick := time.NewTicker(look)
	defer tick.Stop()
	parent, last := os.Getppid(), time.Now()
	j.began = last
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				j.lost()
				return
			}
			if j.hear(m) {
				return
			}
		case <-stop:
			if j.ending {
				return
			}
			j.end()
		case now := <-tick.C:
			// The clock counts a look as a quarter of a second at most. So it stands
			// still while this process, or the machine, is stopped.
			j.clock += min(now.Sub(last), most)
			last = now
			if j.look() {
				return
			}
			if os.Getppid() != parent { // nobody wants to know any more
				if j.world != 0 {
					_ = syscall.Kill(j.world, syscall.SIGCONT) // so that it can hear that we end too
				}
				return
			}
		}
	}
}

// hear takes what the world says, and reports whether that was the last.
func (j *judge) hear(m message) (over bool) {
	j.heard = j.clock
	switch {
	case m.Hello != 0:
		j.world, j.verdict.Begun = m.Hello, true
		j.began = time.Now()
		j.lastRate.at = j.began
	case m.Example != nil:
		e := m.Example
		k := count{e.Op, e.Outcome, e.Counter}
		if text := e.What; len(j.examples[k]) < maxExamples {
			if e.Op < ops {
				text = strconv.Quote(e.What) + ": " + e.Error
			}
			j.examples[k] = append(j.examples[k], text)
		}
	case m.Order != "":
		j.order = m.Order
	case m.Left != nil:
		j.left = append(j.left, m.Left)
	case m.Stacks != "":
		j.hang(m.Stacks)
		return true
	case m.State != nil:
		j.state = *m.State
		j.follows()
		j.measure()
		j.verdict.Ended = m.Bye
		if len(j.findings()) > 0 && !j.ending {
			j.end()
		}
		return m.Bye
	}
	return false
}

// follows notes which operations are under way, and since when.
func (j *judge) follows() {
	was := j.under
	j.under = make(map[int]underWay)
	for _, c := range j.state.Calls {
		u := underWay{c, j.clock}
		if before, ok := was[c.Actor]; ok && before.N == c.N {
			u.since = before.since
		}
		j.under[c.Actor] = u
	}
}

// measure counts the operations of each second.
func (j *judge) measure() {
	now, n := time.Now(), j.state.count()
	if took := now.Sub(j.lastRate.at); took >= time.Second && !j.ending {
		j.rate = append(j.rate, float64(n-j.lastRate.ops)/took.Seconds())
		j.lastRate = rateMark{now, n}
	}
}

// end has the world end.
func (j *judge) end() {
	j.ending, j.endAt = true, j.clock
	j.ask(askEnd)
}

// look finds what does not end, and reports whether there is no sense in waiting longer.
func (j *judge) look() (over bool) {
	if !j.ending && j.verdict.Begun && time.Since(j.began) >= j.config.Duration {
		j.end()
	}
	j.progress()
	late := j.lateCalls(j.config.Deadline)
	silent, patience := j.clock-j.heard, j.config.Deadline
	if !j.verdict.Begun {
		patience += time.Minute // it starts its clients
	}
	switch {
	case j.stacks > 0:
		if j.clock-j.stacks < 5*time.Second {
			return false
		}
		j.verdict.Silent = true // and SIGQUIT makes the runtime print them
		j.hang("")
		return true
	case silent > patience:
		j.verdict.Begun, j.verdict.Silent = true, true
		j.hang("")
		return true
	case len(late) > 0, j.ending && j.clock-j.endAt > 3*j.config.Deadline+10*time.Second:
		j.stacks = j.clock
		j.ask(askStacks)
	}
	return false
}

// age is for how long an operation was under way when the world last said so.
func (j *judge) age(u underWay) time.Duration { return j.heard - u.since }

// lateCalls returns the operations that are under way for longer than age, oldest first.
func (j *judge) lateCalls(age time.Duration) []underWay {
	list := slices.DeleteFunc(slices.Collect(maps.Values(j.under)), func(u underWay) bool { return j.age(u) <= age })
	slices.SortFunc(list, func(a, b underWay) int { return int(a.since - b.since) })
	return list
}

// lost notes that the world has gone without a word.
func (j *judge) lost() {
	if j.verdict.Lost = j.verdict.Begun; j.verdict.Lost {
		j.found = append(j.found, finding{what: "the process of the allocator has ended before its time", count: 1, op: ops, why: []string{
			"it crashed, and its last words are above, or somebody killed it:",
			"its objects, its mount and all that it would have told are gone with it."}})
	}
}
