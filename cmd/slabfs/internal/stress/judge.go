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

// A judgeConfig is what the judge is told. It says nothing about the mistake
// that the world is told to make.
type judgeConfig struct {
	Duration, Deadline time.Duration
	Seed               uint64
	Actors             Actors
	Progress           bool // standard error is a terminal
}

// A judge follows a world and reports its violations.
type judge struct {
	config   judgeConfig
	out, err io.Writer
	ask      func(string) // sends a request to the world

	world    int // process of the world; 0: not started yet
	began    time.Time
	clock    time.Duration      // see follow
	heard    time.Duration      // when the last message came
	state    state              // the last one
	under    map[int]underWay   // by actor
	examples map[count][]string // what the world told about a count
	left     []*left
	order    string        // lockdep's report
	found    []finding     // findings that do not follow from the state
	ending   bool          // the world was asked to end
	endAt    time.Duration // when the world was asked to end
	stacks   time.Duration // when the stacks were asked for; 0: not yet
	rate     []float64     // operations in each full second
	lastRate rateMark      // when the last second began
	shown    time.Time     // when the progress was shown
	verdict  verdict
}

// A count is one of the numbers in a state.
type count struct {
	op      op
	outcome outcome
	counter counter // if op is ops
}

// An underWay is a call, and when it was first seen.
type underWay struct {
	call
	since time.Duration
}

type rateMark struct {
	at  time.Time
	ops uint64
}

// A finding is one violation.
type finding struct {
	what  string
	count uint64
	why   []string
	told  bool // it was printed when it was found
	op    op   // the operation that is at fault; ops: none
}

// runJudge is the main function of the judge's process. The messages of the
// world arrive on standard input. Requests go to descriptor 3, the verdict to
// descriptor 4.
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

// follow listens to the world until it has ended, or until waiting has no
// point. The first signal asks the world to end; the second ends follow.
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
			// The clock advances by at most a quarter of a second
			// at each look, so it stands still while this process
			// or the machine is stopped.
			j.clock += min(now.Sub(last), most)
			last = now
			if j.look() {
				return
			}
			if os.Getppid() != parent { // the process that wants the verdict is gone
				if j.world != 0 {
					_ = syscall.Kill(j.world, syscall.SIGCONT) // so that it can notice our end
				}
				return
			}
		}
	}
}

// hear handles a message of the world, and reports whether it was the last.
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

// follows records which operations are under way, and since when.
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

// end asks the world to end.
func (j *judge) end() {
	j.ending, j.endAt = true, j.clock
	j.ask(askEnd)
}

// look finds what does not end, and reports whether waiting longer has no
// point.
func (j *judge) look() (over bool) {
	if !j.ending && j.verdict.Begun && time.Since(j.began) >= j.config.Duration {
		j.end()
	}
	j.progress()
	late := j.lateCalls(j.config.Deadline)
	silent, patience := j.clock-j.heard, j.config.Deadline
	if !j.verdict.Begun {
		patience += time.Minute // the world has to start its clients
	}
	switch {
	case j.stacks > 0:
		if j.clock-j.stacks < 5*time.Second {
			return false
		}
		j.verdict.Silent = true // SIGQUIT then makes the runtime print the stacks
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

// age returns how long an operation had been under way at the last message of
// the world.
func (j *judge) age(u underWay) time.Duration { return j.heard - u.since }

// lateCalls returns the operations that are under way for longer than age,
// oldest first.
func (j *judge) lateCalls(age time.Duration) []underWay {
	list := slices.DeleteFunc(slices.Collect(maps.Values(j.under)), func(u underWay) bool { return j.age(u) <= age })
	slices.SortFunc(list, func(a, b underWay) int { return int(a.since - b.since) })
	return list
}

// lost records that the world is gone without its last message.
func (j *judge) lost() {
	if j.verdict.Lost = j.verdict.Begun; j.verdict.Lost {
		j.found = append(j.found, finding{what: "the process of the allocator has ended before its time", count: 1, op: ops, why: []string{
			"it crashed, and its last words are above, or somebody killed it:",
			"its objects, its mount and the rest of its reports are gone with it."}})
	}
}
