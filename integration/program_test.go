package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"slabfs/alloc"
	"slabfs/internal/cpu"
	"slabfs/internal/testclient"
	"slabfs/sysfs/fusefs"
	"slabfs/sysfs/slabattr"
)

// programDirEnv names the directory on which the role "program" mounts.
const programDirEnv = "SLABFS_TEST_PROGRAM_DIR"

// A request makes the program allocate objects of its cache on a CPU, or free
// those that it got in the request Free, counted from 0.
type request struct {
	CPU, Alloc int
	Free       []int
}

// A result has the addresses of what was allocated.
type result struct {
	Objects []uintptr
	Err     string
}

// beProgram is a service that has a cache of its own, "session", whose files it
// serves. It does what requests on its standard input say, until that ends.
func beProgram() error {
	a, err := alloc.New(alloc.Options{})
	if err != nil {
		return err
	}
	c, err := a.NewCache("session", 64, alloc.CacheOptions{Flags: alloc.NoMerge})
	if err != nil {
		return err
	}
	srv, err := slabattr.Mount(os.Getenv(programDirEnv), a, fusefs.Options{})
	if err != nil {
		return err
	}
	out, in := json.NewEncoder(os.Stdout), json.NewDecoder(os.Stdin)
	if err := out.Encode("ready"); err != nil {
		return err
	}
	var got [][]unsafe.Pointer
	for {
		var r request
		if err := in.Decode(&r); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		objs := make([]unsafe.Pointer, r.Alloc)
		err := onCPU(r.CPU, func() {
			for i := range objs {
				objs[i] = c.Alloc()
			}
			for _, i := range r.Free {
				for _, obj := range got[i] {
					c.Free(obj)
				}
				got[i] = nil
			}
		})
		got = append(got, objs)
		var answer result
		for _, obj := range objs {
			answer.Objects = append(answer.Objects, uintptr(obj))
		}
		if err != nil {
			answer.Err = err.Error()
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
	if err := srv.Unmount(context.Background()); err != nil {
		return err
	}
	for _, objs := range got {
		for _, obj := range objs {
			c.Free(obj)
		}
	}
	return a.Close()
}

// onCPU runs f on a thread that is bound to a CPU.
func onCPU(n int, f func()) (err error) {
	cpu.Aside(func() {
		var one unix.CPUSet
		one.Set(n)
		if err = unix.SchedSetaffinity(0, &one); err == nil {
			f()
		}
	})
	return err
}

// A program is a role that serves, as the test sees it.
type program struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader

	killed bool
}

// kill ends the program as it should not be ended.
func (p *program) kill() {
	p.t.Helper()
	p.killed = true
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Error(err)
	}
}

func startProgram(t *testing.T, dir string, env ...string) *program {
	t.Helper()
	return startRole(t, "program", dir, env...)
}

// startRole starts this binary in a role that mounts on dir, and says so in a line.
func startRole(t testing.TB, role, dir string, env ...string) *program {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), roleEnv+"="+role, programDirEnv+"="+dir), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil && !p.killed {
			t.Errorf("end of the program: %v", err)
		}
	})
	var ready string
	p.receive(&ready)
	return p
}

func (p *program) receive(v any) {
	p.t.Helper()
	line, err := p.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, v)
	}
	if err != nil {
		p.t.Fatalf("the program's answer: %q, %v", line, err)
	}
}

// do returns the addresses of what the program allocates.
func (p *program) do(r request) []uintptr {
	p.t.Helper()
	line, err := json.Marshal(r)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		p.t.Fatal(err)
	}
	var answer result
	p.receive(&answer)
	if answer.Err != "" {
		p.t.Fatalf("%+v: %s", r, answer.Err)
	}
	return answer.Objects
}

// affinity returns the CPUs that this process may use.
func affinity(t *testing.T) (cpus []int) {
	t.Helper()
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	for n := range len(may) * 64 {
		if may.IsSet(n) {
			cpus = append(cpus, n)
		}
	}
	return cpus
}

// Objects that were freed on one CPU wait there for that CPU. After a write to
// cpu_partial they are handed out on another.
func TestFreedOnOneCPUUsedOnAnother(t *testing.T) {
	needRoot(t)
	t.Parallel()
	cpus := affinity(t)
	if len(cpus) < 2 {
		t.Skip("needs two CPUs")
	}
	for _, env := range []string{"", "GOMAXPROCS=1"} {
		t.Run(env, func(t *testing.T) {
			t.Parallel()
			dir := root.newDir(t, true)
			p := startProgram(t, dir, env)
			c := testclient.Start(t, testclient.Options{})
			attr := func(name string) string { return dir + "/sys/kernel/slab/session/" + name }
			first, second := cpus[0], cpus[1]

			const n = 20
			freed := p.do(request{CPU: second, Alloc: n})
			p.do(request{CPU: second, Free: []int{0}})
			before := p.do(request{CPU: first, Alloc: n})
			for _, obj := range before {
				if slices.Contains(freed, obj) {
					t.Errorf("object %#x, free on CPU %d, was handed out on CPU %d before the flush", obj, second, first)
				}
			}
			if got := cat(c, attr("objects")); got != fmt.Sprintf("%d N0=%d\n", n, n) {
				t.Errorf("objects = %q; want %d on one node", got, n)
			}
			total := cat(c, attr("total_objects"))
			echo(c, attr("cpu_partial"), "30")
			if got := cat(c, attr("slabs_cpu_partial")); got != "0(0)\n" {
				t.Errorf("slabs_cpu_partial = %q after the flush; want 0(0)", got)
			}
			// Two slabs of 64 objects are there; so all that is free is handed out.
			after := p.do(request{CPU: first, Alloc: 2*64 - n})
			for _, obj := range freed {
				if !slices.Contains(after, obj) {
					t.Errorf("object %#x, freed on CPU %d, was not handed out on CPU %d after the flush", obj, second, first)
				}
			}
			if got := cat(c, attr("total_objects")); got != total {
				t.Errorf("total_objects went from %q to %q; want no new slab", total, got)
			}
			p.do(request{CPU: first, Free: []int{2, 3}})
		})
	}
}
