package integration

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"slabfs/internal/cpu"
	"slabfs/internal/testclient"
)

const cpuDir = "sys/devices/system/cpu"

// online returns the path of a CPU's file.
func (s *server) online(n int) string { return s.path(cpuDir, fmt.Sprint("cpu", n), "online") }

// cpus returns the CPUs that have such a file, which are those that the list says.
func (s *session) cpus(t *testing.T) (cpus []int) {
	t.Helper()
	for _, e := range s.c.OK(Op{Do: "readdir", Path: s.path(cpuDir)}).Entries {
		if digits, ok := strings.CutPrefix(e.Name, "cpu"); ok {
			n, err := strconv.Atoi(digits)
			if err != nil || e.Type != unix.DT_DIR {
				t.Errorf("%s is there, of type %d; want directories cpuN", e.Name, e.Type)
			}
			cpus = append(cpus, n)
		}
	}
	slices.Sort(cpus)
	if got, want := cpu.MaskOf(cpus...).String(), strings.TrimSpace(cat(s.c, s.path(cpuDir, "possible"))); got != want {
		t.Errorf("there are directories for CPUs %s; possible are %s", got, want)
	}
	return cpus
}

// seenHotplug takes CPUs offline and brings them back, while load runs and at rest.
func seenHotplug(t *testing.T, s *session) {
	cpus := s.cpus(t)
	first, last := cpus[0], cpus[len(cpus)-1]
	if st, live := s.c.OK(Op{Do: "stat", Path: s.online(last)}).Stat, fmt.Sprintf("/%s/cpu%d/online", cpuDir, last); st.Mode != unix.S_IFREG|0o644 || st.Size != 4096 {
		t.Errorf("online: mode %#o, size %d; want 0644, 4096", st.Mode, st.Size)
	} else if fi, err := os.Stat(live); err == nil && (uint32(fi.Mode()) != st.Mode&0o777 || fi.Size() != st.Size) {
		t.Errorf("online: mode %#o, size %d; in Linux %v, %d", st.Mode, st.Size, fi.Mode(), fi.Size())
	}
	s.stranger.Want(unix.EACCES, Op{Do: "open", Path: s.online(last), Flags: unix.O_WRONLY})
	all := cat(s.c, s.path(cpuDir, "online"))
	for _, n := range cpus[1:] {
		echo(s.c, s.online(n), "0")
		echo(s.c, s.online(n), "off")
		for _, text := range []string{"2", "", " 0", "-1", "abc"} {
			echoWant(s.c, unix.EINVAL, s.online(n), text)
		}
		if got := cat(s.c, s.online(n)); got != "0\n" {
			t.Errorf("cpu%d/online = %q; want 0", n, got)
		}
	}
	echoWant(s.c, unix.EBUSY, s.online(first), "0")
	rest := cpu.MaskOf(cpus[1:]...).String() + "\n"
	if on, off := cat(s.c, s.path(cpuDir, "online")), cat(s.c, s.path(cpuDir, "offline")); on != fmt.Sprintln(first) || off != rest {
		t.Errorf("online %q, offline %q; want %d, %q", on, off, first, rest)
	}
	elsewhere := regexp.MustCompile(fmt.Sprintf(` C(%d\d|[^%d])`, first, first))
	for _, cache := range []string{"kmalloc-64", "load-small"} {
		for _, file := range []string{"slabs_cpu_partial", "alloc_fastpath", "alloc_slowpath", "sheaf_flush"} {
			if got := cat(s.c, s.attr(cache, file)); elsewhere.MatchString(got) {
				t.Errorf("%s/%s = %q while only CPU %d is online", cache, file, got, first)
			}
		}
	}
	echo(s.c, s.module("new_cache"), "late 64 flags=no_merge")
	for _, n := range cpus {
		echo(s.c, s.online(n), "1")
	}
	if got := cat(s.c, s.path(cpuDir, "online")); got != all {
		t.Errorf("online = %q at the end; want %q", got, all)
	}
	echo(s.c, s.module("delete_cache"), "late")
}

// CPUs come and go while load runs, caches come and go, and all is read. Nothing is lost
// or counted twice.
func TestHotplugUnderLoad(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, env := range []string{"SLABFS_PERCPU=", "SLABFS_PERCPU=lock", "GOMAXPROCS=1"} {
		t.Run(env, func(t *testing.T) {
			t.Parallel()
			u := user{env: []string{env}}
			s := &session{server: u.mount(t, u.newDir(t, true), "--load", "--lockdep"), c: u.client(t)}
			cpus := s.cpus(t)
			if len(cpus) < 2 {
				t.Skip("needs two CPUs")
			}
			plugger, end, ended := u.client(t), make(chan bool), make(chan bool)
			var plugged atomic.Int64
			go func() {
				defer close(ended)
				for i := 0; ; i++ {
					select {
					case <-end:
						return
					default:
					}
					for _, text := range []string{"0", "1"} {
						r := plugger.Do(Op{Do: "echo", Path: s.online(cpus[i%len(cpus)]), Data: []byte(text)})
						if r.Errno != 0 {
							t.Errorf("echo %s > cpu%d/online: %v", text, cpus[i%len(cpus)], r.Errno)
						}
					}
					plugged.Add(1)
				}
			}()
			churned, stop := s.churn(t)
			for plugged.Load() < 50 || churned.Load() < 20 {
				for _, list := range []string{"online", "offline"} {
					text := strings.TrimSpace(cat(s.c, s.path(cpuDir, list)))
					if m, err := cpu.ParseList(text); err != nil || m.Count() > len(cpus) || list == "offline" && m.Count() > 1 {
						t.Errorf("%s = %q, %v", list, text, err)
					}
				}
				for _, file := range []string{"objects", "slabs_cpu_partial", "alloc_fastpath"} {
					cat(s.c, s.attr("load-small", file))
				}
				s.table(t)
				echo(s.c, s.attr("load-small", "cpu_partial"), "30")
				echo(s.c, s.attr("load-small", "sheaf_capacity"), strconv.Itoa(10+int(plugged.Load())%10))
			}
			stop()
			close(end)
			<-ended
			echo(s.c, s.module("load/running"), "0")
			for _, cache := range []string{"load-small", "kmalloc-64"} {
				count := func(file string) int { return s.number(t, s.attr(cache, file)) }
				allocs, frees := count("alloc_fastpath")+count("alloc_slowpath"), count("free_fastpath")+count("free_slowpath")
				if objects := count("objects"); allocs != frees+objects || allocs == 0 {
					t.Errorf("%s: %d objects handed out, %d taken back, %d live", cache, allocs, frees, objects)
				}
			}
			if got := cat(s.c, s.path("proc/lockdep_report")); got != "" {
				t.Errorf("lockdep:\n%s", got)
			}
		})
	}
}

// What waits on a CPU that goes offline is handed out on another, and its threads are served.
func TestOfflineReturnsObjects(t *testing.T) {
	needRoot(t)
	t.Parallel()
	cpus := affinity(t)
	if len(cpus) < 2 {
		t.Skip("needs two CPUs")
	}
	first, second := cpus[0], cpus[1]
	dir := root.newDir(t, true)
	p := startProgram(t, dir)
	s := &session{server: &server{dir: dir}, c: testclient.Start(t, testclient.Options{})}
	freed := p.do(request{CPU: second, Alloc: 20})
	p.do(request{CPU: second, Free: []int{0}})
	before := p.do(request{CPU: first, Alloc: 20})
	total := cat(s.c, s.attr("session", "total_objects"))
	echo(s.c, s.online(second), "0")
	after := p.do(request{CPU: second, Alloc: 1})
	after = append(after, p.do(request{CPU: first, Alloc: 128 - 20 - 1})...) // two slabs of 64 objects are there
	for _, obj := range freed {
		if slices.Contains(before, obj) || !slices.Contains(after, obj) {
			t.Errorf("object %#x, freed on CPU %d, is not one of those that were handed out only when that was offline", obj, second)
		}
	}
	if got := cat(s.c, s.attr("session", "total_objects")); got != total {
		t.Errorf("total_objects went from %q to %q; want no new slab", total, got)
	}
	p.do(request{CPU: second, Free: []int{2, 3, 4}})
	if got := cat(s.c, s.attr("session", "objects")); got != "0\n" {
		t.Errorf("objects = %q; want 0", got)
	}
	echo(s.c, s.online(second), "1")
	p.do(request{CPU: second, Alloc: 10})
	if got := cat(s.c, s.attr("session", "alloc_fastpath")); !strings.Contains(got, fmt.Sprintf(" C%d=", second)) {
		t.Errorf("alloc_fastpath = %q; want some on CPU %d, which is back", got, second)
	}
}
