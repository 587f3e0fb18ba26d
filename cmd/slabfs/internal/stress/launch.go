package stress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Errors of a run that took place; neither is a fault of the machine.
var (
	ErrViolation    = errors.New("violation")
	ErrInconclusive = errors.New("inconclusive")
)

// A StartError says that the world could not start. The world has printed the
// reason to Config.Err.
type StartError struct{ Status int }

func (e *StartError) Error() string {
	return fmt.Sprintf("stress: the process of the allocator could not start: status %d", e.Status)
}

// A Config says what to run, and how.
type Config struct {
	Duration time.Duration
	Deadline time.Duration // an operation that takes longer is a violation
	Seed     uint64
	Actors   Actors
	Dir      string          // where to mount; created and removed if it does not exist; "": a temporary directory
	Lockdep  bool            // check the order of locks
	Inject   string          // a mistake to make, one of fault.Names; "": none
	Command  []string        // arguments that make this program call Serve with the arguments after them
	Out, Err io.Writer       // the table; stacks, violations, log
	Progress bool            // Err is a terminal
	Now      <-chan struct{} // closed: end at once without waiting; may be nil
}

// Actors says how many actors of each kind there are. As a flag it is a list
// like store=8,hoard=0, which changes the kinds in the list.
type Actors map[string]int

// DefaultActors is enough for a conclusive run of ten seconds on two busy CPUs.
func DefaultActors() Actors {
	n := Actors{}
	for name, k := range actorKinds {
		n[name] = k.count
	}
	return n
}

// Kinds describes all kinds of actors, one on each line.
func Kinds() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(actorKinds)) {
		k := actorKinds[name]
		fmt.Fprintf(&b, "  %-13s %d  %s\n", name, k.count, k.about)
	}
	return b.String()
}

// String lists the kinds whose count is not the default.
func (n Actors) String() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		if k, ok := actorKinds[name]; ok && n[name] != k.count {
			list = append(list, fmt.Sprintf("%s=%d", name, n[name]))
		}
	}
	return strings.Join(list, ",")
}

// Set reads such a list.
func (n Actors) Set(s string) error {
	for field := range strings.SplitSeq(s, ",") {
		name, count, _ := strings.Cut(field, "=")
		if _, ok := actorKinds[name]; !ok {
			return fmt.Errorf("no actor %q, want one of %s", name, strings.Join(slices.Sorted(maps.Keys(actorKinds)), " "))
		}
		i, err := strconv.ParseUint(count, 10, 8)
		if err != nil {
			return fmt.Errorf("%q: want KIND=COUNT, with a count up to 255", field)
		}
		n[name] = int(i)
	}
	return nil
}

// Type is the type that the usage of a flag shows.
func (Actors) Type() string { return "KIND=COUNT,..." }

// A run is a run as seen by the process that the user started.
type run struct {
	Config
	dir   string
	made  bool
	world *exec.Cmd
	judge *exec.Cmd
	alive *os.File // at its end of file the world and its clients are gone
}

// Run starts a world and a judge. It lets them run until the duration is over,
// ctx ends or a violation is found, and prints the verdict. It leaves no mount,
// process or directory behind, even if something hangs or is killed.
//
// Errors: ErrViolation, ErrInconclusive; other errors if it could not run.
func Run(ctx context.Context, c Config) error {
	r := &run{Config: c}
	if err := r.makeDir(); err != nil {
		return fmt.Errorf("stress: %w", err)
	}
	v, err := r.run(ctx)
	if err := r.cleanUp(v); err != nil {
		fmt.Fprintln(c.Err, "stress:", err)
	}
	if err != nil {
		return fmt.Errorf("stress: %w", err)
	}
	switch {
	case v == nil:
		return fmt.Errorf("stress: %w: the judge ended without a verdict; again: %s", ErrInconclusive, r.again())
	case !v.Begun && ctx.Err() == nil:
		return &StartError{r.world.ProcessState.ExitCode()}
	case v.Violations > 0:
		how := ""
		if v.Lost {
			how = ", the process of the allocator ended with " + r.world.ProcessState.String()
		}
		return fmt.Errorf("stress: %w%s; again: %s", ErrViolation, how, r.again())
	case !v.Begun:
		return fmt.Errorf("stress: %w: interrupted before it began", ErrInconclusive)
	case len(v.Missing) > 0:
		return fmt.Errorf("stress: %w: no %s; run longer, with a higher --duration", ErrInconclusive, strings.Join(v.Missing, ", no "))
	}
	return nil
}

func (r *run) makeDir() (err error) {
	if r.dir = r.Dir; r.dir == "" {
		r.dir, err = os.MkdirTemp("", "slabfs-stress-")
		r.made = err == nil
		return err
	}
	err = os.Mkdir(r.dir, 0o755)
	r.made = err == nil
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// run starts both processes and waits for the verdict, which is nil if there is
// none.
func (r *run) run(ctx context.Context) (*verdict, error) {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	pipe := func() (from, to *os.File, err error) {
		from, to, err = os.Pipe()
		if err == nil {
			files = append(files, from, to)
		}
		return from, to, err
	}
	messages, tell, err := pipe()
	commands, ask, err2 := pipe()
	verdicts, judged, err3 := pipe()
	alive, life, err4 := os.Pipe()
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return nil, err
	}
	r.alive = alive
	defer life.Close()

	// The world's clients inherit descriptor 3 and the world's process
	// group.
	r.world, err = r.command("world", worldConfig{r.Seed, r.Actors, r.dir, r.made, r.Lockdep, r.Inject, r.Command})
	if err != nil {
		return nil, err
	}
	r.world.Stdin, r.world.Stdout, r.world.Stderr, r.world.ExtraFiles = commands, tell, r.Err, []*os.File{life}
	r.judge, err = r.command("judge", judgeConfig{r.Duration, r.Deadline, r.Seed, r.Actors, r.Progress})
	if err != nil {
		return nil, err
	}
	r.judge.Stdin, r.judge.Stdout, r.judge.Stderr, r.judge.ExtraFiles = messages, r.Out, r.Err, []*os.File{ask, judged}
	if err := r.start(); err != nil {
		return nil, err
	}
	for _, f := range []*os.File{tell, commands, messages, ask, judged, life} {
		f.Close()
	}
	r.await(ctx)
	var v verdict
	if json.NewDecoder(verdicts).Decode(&v) != nil {
		return nil, nil
	}
	return &v, nil
}

// start starts both processes or none.
func (r *run) start() error {
	if err := r.judge.Start(); err != nil {
		r.world, r.judge = nil, nil
		return err
	}
	if err := r.world.Start(); err != nil {
		r.world = nil
		_ = r.judge.Process.Kill()
		_ = r.judge.Wait()
		return err
	}
	return nil
}

// await waits for the end of the judge. If ctx ends, it sends the judge one
// signal, which makes it end the world. If Now is closed, it sends a second
// signal, which ends the judge at once.
func (r *run) await(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.judge.Wait()
	}()
	for stop, now := ctx.Done(), r.Now; ; {
		select {
		case <-stop:
			stop = nil
			_ = r.judge.Process.Signal(syscall.SIGTERM)
		case <-now:
			now = nil
			_ = r.judge.Process.Signal(syscall.SIGTERM)
			if stop != nil {
				stop = nil
				_ = r.judge.Process.Signal(syscall.SIGTERM)
			}
		case <-ended:
			return
		}
	}
}

// command runs this program in another role. It has a process group of its own,
// because Ctrl-C is meant for this process.
func (r *run) command(role string, config any) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	c := exec.Command(exe, append(slices.Clone(r.Command), role, string(text))...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.WaitDelay = time.Second
	return c, nil
}

// cleanUp ends what is left, without waiting for a process that may hang.
func (r *run) cleanUp(v *verdict) error {
	if r.alive != nil {
		defer r.alive.Close()
	}
	if r.world != nil {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = r.world.Wait()
		}()
		within := func(d time.Duration) bool {
			select {
			case <-ended:
				return true
			case <-time.After(d):
				return false
			}
		}
		if v != nil && v.Ended {
			within(5 * time.Second) // to end by itself
		}
		if v != nil && v.Silent {
			_ = r.world.Process.Signal(syscall.SIGQUIT) // makes it print all stacks
			_ = r.world.Process.Signal(syscall.SIGCONT) // in case it was stopped
			within(5 * time.Second)
		}
		abort(r.dir)
		r.kill()
		if !within(10 * time.Second) {
			return fmt.Errorf("process %d does not die", r.world.Process.Pid)
		}
	}
	if r.made {
		if err := os.Remove(r.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// kill ends the world and its clients, if any are left.
func (r *run) kill() {
	gone := func(d time.Duration) bool {
		_ = r.alive.SetReadDeadline(time.Now().Add(d))
		_, err := r.alive.Read(make([]byte, 1))
		return errors.Is(err, io.EOF)
	}
	if !gone(0) {
		_ = syscall.Kill(-r.world.Process.Pid, syscall.SIGKILL)
		gone(5 * time.Second)
	}
}

// again returns the command that repeats the run.
func (r *run) again() string {
	s := fmt.Sprintf("slabfs stress --seed %d --duration %v", r.Seed, r.Duration)
	if n := r.Actors.String(); n != "" {
		s += " --actors " + n
	}
	if r.Lockdep {
		s += " --lockdep"
	}
	if r.Inject != "" {
		s += " --inject " + r.Inject
	}
	return s
}

// Serve plays a role in a run. This program calls it when it is started with
// Config.Command, with the arguments after that.
func Serve(args []string) error {
	if len(args) == 0 {
		return errors.New("stress: no role given")
	}
	switch role, text := args[0], args[len(args)-1]; role {
	case "client":
		return serve(os.Stdin, os.Stdout)
	case "world":
		var c worldConfig
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return fmt.Errorf("stress world: %w", err)
		}
		return runWorld(c)
	case "judge":
		var c judgeConfig
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return fmt.Errorf("stress judge: %w", err)
		}
		return runJudge(c)
	default:
		return fmt.Errorf("stress: no role %q", role)
	}
}
