package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A reader is a program that shows proc/slabinfo in its own way.
type reader struct {
	name string

	// start returns a function that lets the program look once, and gives what it
	// shows of each cache.
	start func(t *testing.T, s *session) func() (map[string]string, error)

	// want is what it is to show of a cache.
	want func(name string, r row) string

	// It shows the figures of one reading beside the names of the next, so that
	// they are shifted when caches have come or gone in between, on any file.
	shifts bool
}

var readers = []reader{
	{
		name: "slabtop",
		start: func(t *testing.T, s *session) func() (map[string]string, error) {
			return s.startTable(t, `^ *\d+ +\d+ +\d+% +[\d.]+K +\d+ +\d+ +\d+K (\S*) *$`, `^ (Active|Minimum) / |^$|^ +OBJS ACTIVE `, "slabtop", "-o")
		},
		want: func(name string, r row) string {
			used := uint32(0)
			if r.total > 0 {
				used = 100 * r.active / r.total
			}
			return fmt.Sprintf("%d %d %d%% %.2fK %d %d %dK %s",
				r.total, r.active, used, float64(r.size)/1024, r.slabs, r.perSlab, r.slabs*r.pages*4, name)
		},
		shifts: true, // 4.0.2
	},
	{
		name: "vmstat",
		start: func(t *testing.T, s *session) func() (map[string]string, error) {
			return s.startTable(t, `^(\S+) +\d+ +\d+ +\d+ +\d+$`, `^Cache +Num +Total +Size +Pages$`, "vmstat", "-m")
		},
		want: func(name string, r row) string { // what it calls pages is objects per slab
			return fmt.Sprintln(name, r.active, r.total, r.size, r.perSlab)
		},
	},
	{name: "node_exporter", start: startExporter, want: prometheusWant},
	{name: "procfs", start: startProcfs, want: prometheusWant},
}

func prometheusWant(_ string, r row) string {
	return fmt.Sprint(r.active, r.total, r.size, r.perSlab, r.pages)
}

// startTable is for a command that slabfs exec runs. Each line that it prints
// must be a row, whose cache is the group, or one of the other lines.
func (s *session) startTable(t *testing.T, row, other string, command ...string) func() (map[string]string, error) {
	needProgram(t, command[0], "package procps")
	isRow, isOther := regexp.MustCompile(row), regexp.MustCompile(other)
	return func() (map[string]string, error) {
		status, out, errs := finish(t, s.exec(command...))
		if status != 0 || errs != "" {
			return nil, fmt.Errorf("status %d, %q", status, errs)
		}
		rows := make(map[string]string)
		for line := range strings.Lines(out) {
			line = strings.TrimSuffix(line, "\n")
			m := isRow.FindStringSubmatch(line)
			switch {
			case m == nil && isOther.MatchString(line):
				continue
			case m == nil || rows[m[1]] != "" && m[1] != "": // see shifts
				return nil, fmt.Errorf("it shows %q", line)
			}
			rows[m[1]] = strings.Join(strings.Fields(line), " ")
		}
		return rows, nil
	}
}

// startExporter starts prometheus-node-exporter on the mount. Looking is a scrape.
func startExporter(t *testing.T, s *session) func() (map[string]string, error) {
	cmd := exec.Command(needProgram(t, "prometheus-node-exporter", "package prometheus-node-exporter"),
		"--collector.disable-defaults", "--collector.slabinfo", "--web.listen-address=127.0.0.1:0",
		"--path.procfs="+s.path("proc"), "--path.sysfs="+s.path("sys"))
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address := make(chan string, 1)
	go func() {
		listening := regexp.MustCompile(`msg="Listening on" address=(\S+)`)
		in := bufio.NewScanner(errs)
		for in.Scan() {
			if m := listening.FindStringSubmatch(in.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	client := &http.Client{Timeout: patience}
	var url string
	select {
	case a := <-address:
		url = "http://" + a + "/metrics"
	case <-time.After(patience):
		t.Fatalf("prometheus-node-exporter did not listen within %v", patience)
	}
	metric := regexp.MustCompile(`(?m)^node_slabinfo_(\w+)\{slab="([^"]+)"\} (\S+)$`)
	return func() (map[string]string, error) {
		resp, err := client.Get(url)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK || !bytes.Contains(text, []byte("\nnode_scrape_collector_success{collector=\"slabinfo\"} 1\n")) {
			return nil, fmt.Errorf("%s:\n%s", resp.Status, text)
		}
		values := make(map[string]map[string]int) // of each cache, by metric
		for _, m := range metric.FindAllSubmatch(text, -1) {
			v, err := strconv.ParseFloat(string(m[3]), 64)
			if err != nil {
				return nil, err
			}
			name := string(m[2])
			if values[name] == nil {
				values[name] = make(map[string]int)
			}
			values[name][string(m[1])] = int(v)
		}
		rows := make(map[string]string)
		for name, v := range values {
			rows[name] = fmt.Sprint(v["active_objects"], v["objects"], v["object_size_bytes"], v["objects_per_slab"], v["pages_per_slab"])
		}
		return rows, nil
	}
}

// startProcfs builds and starts the program that uses the library below
// node_exporter, in the version of this day. A line lets it look.
func startProcfs(t *testing.T, s *session) func() (map[string]string, error) {
	program := filepath.Join(t.TempDir(), "procfs")
	source := filepath.Join("testdata", "procfs")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = source
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		download := exec.Command("go", "-C", source, "mod", "download")
		download.Env = build.Env
		if os.Getenv("CI") == "" && download.Run() != nil {
			t.Skipf("its modules cannot be fetched: %v", err)
		}
		t.Fatalf("build it: %v\n%s", err, out)
	}
	cmd := exec.Command(program, s.path("proc"))
	var errs bytes.Buffer
	cmd.Stderr = &errs
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
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("it ended: %v: %s", err, &errs)
		}
	})
	lines := bufio.NewScanner(out)
	return func() (map[string]string, error) {
		if _, err := in.Write([]byte("\n")); err != nil {
			return nil, err
		}
		rows := make(map[string]string)
		for lines.Scan() {
			if lines.Text() == "." {
				return rows, nil
			}
			name, figures, _ := strings.Cut(lines.Text(), " ")
			if rows[name] != "" {
				return nil, fmt.Errorf("it shows %s twice", name)
			}
			rows[name] = figures
		}
		return nil, io.ErrUnexpectedEOF // Cleanup tells why
	}
}

// Programs that read /proc/slabinfo, and know nothing of slabfs, show what cat
// shows: of caches at rest the same figures, of a load and of caches that come
// and go whole tables.
func TestReaders(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, r := range readers {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := &session{server: root.mount(t, root.newDir(t, true), "--load", "--cache=twin-a:192", "--cache=twin-b:192"), c: root.client(t)}
			look := r.start(t, s)
			stay := slices.Collect(maps.Keys(s.table(t)))
			compare := func() {
				t.Helper()
				echo(s.c, s.module("load/running"), "0")
				got, err := look()
				if err != nil {
					t.Fatal(err)
				}
				want := make(map[string]string)
				for name, row := range s.table(t) {
					want[name] = strings.TrimSpace(r.want(name, row))
				}
				if !maps.Equal(got, want) {
					t.Errorf("of caches at rest it shows\n%v\nwant\n%v", got, want)
				}
				echo(s.c, s.module("load/running"), "1")
			}
			compare()
			sees := func(while string, shifted bool) {
				t.Helper()
				got, err := look()
				if err != nil {
					t.Fatalf("while %s: %v", while, err)
				}
				missing := slices.DeleteFunc(slices.Clone(stay), func(name string) bool { return got[name] != "" })
				if len(got) < len(stay) || len(missing) > 0 && !shifted {
					t.Errorf("while %s: %q are missing: %v", while, missing, got)
				}
			}
			for range 10 {
				sees("figures change", false)
			}
			count, stop := s.churn(t)
			for n := 0; n < 10 || count.Load() < 20; n++ {
				sees("caches come and go", r.shifts)
			}
			stop()
			compare()
		})
	}
}

// A kernelTool is slabinfo of the kernel's sources, which reads /sys/kernel/slab.
type kernelTool struct {
	*session
	t *testing.T
}

func startKernelTool(t *testing.T) kernelTool {
	needRoot(t)
	needProgram(t, "slabinfo", ".ci/clients builds it from the package linux-source")
	s := &session{server: root.mount(t, root.newDir(t, true), "--load",
		"--cache=twin-a:192:hwcache_align,reclaim_account", "--cache=twin-b:192:hwcache_align,reclaim_account"), c: root.client(t)}
	return kernelTool{s, t}
}

// run runs it in the mount's namespace. It must work, and be silent about it.
func (k kernelTool) run(args ...string) string {
	k.t.Helper()
	status, out, errs := finish(k.t, k.exec(append([]string{"slabinfo"}, args...)...))
	if status != 0 || errs != "" {
		k.t.Errorf("slabinfo %q: status %d, %q; want 0 and silence", args, status, errs)
	}
	return out
}

// directories returns the caches that are not links to others.
func (k kernelTool) directories() (names []string) {
	for _, e := range k.c.OK(Op{Do: "readdir", Path: k.path("sys/kernel/slab")}).Entries {
		switch {
		case strings.HasPrefix(e.Name, "."):
		case e.Type == unix.DT_DIR:
			names = append(names, e.Name)
		case e.Type != unix.DT_LNK:
			k.t.Errorf("%s has type %d; the tool gives up at all but directories and links", e.Name, e.Type)
		}
	}
	return names
}

// figure returns the number that a file of a cache begins with. Like the tool it
// takes a file that is not there for 0.
func (k kernelTool) figure(cache, file string) int {
	k.t.Helper()
	if k.c.Do(Op{Do: "stat", Path: k.attr(cache, file)}).Errno == unix.ENOENT {
		return 0
	}
	return k.number(k.t, k.attr(cache, file))
}

// bytes returns what the slabs of a cache take.
func (k kernelTool) bytes(cache string) int {
	return k.figure(cache, "slabs") * 4096 << k.figure(cache, "order")
}

// line is what the tool's list shows of a cache.
func (k kernelTool) line(cache string) string {
	slabs, partial, cpu := k.figure(cache, "slabs"), k.figure(cache, "partial"), k.figure(cache, "cpu_slabs")
	objects, size := k.figure(cache, "objects"), k.figure(cache, "object_size")
	free, used := 100, 100 // percent
	if slabs > 0 {
		free, used = partial*100/slabs, objects*size*100/k.bytes(cache)
	}
	flags := ""
	for _, f := range []struct{ letter, file string }{
		{"*", "aliases"}, {"d", "cache_dma"}, {"A", "hwcache_align"}, {"P", "poison"}, {"a", "reclaim_account"},
		{"Z", "red_zone"}, {"F", "sanity_checks"}, {"U", "store_user"}, {"T", "trace"},
	} {
		if k.figure(cache, f.file) != 0 {
			flags += f.letter
		}
	}
	return strings.TrimSpace(fmt.Sprintf("%s %d %d %d %d/%d/%d %d %d %d %d %s", cache, objects, size, k.bytes(cache),
		slabs-cpu, partial, cpu, k.figure(cache, "objs_per_slab"), k.figure(cache, "order"), free, used, flags))
}

// checkLines compares a list of the tool, below its head, with what want says of
// the cache that each line begins with.
func (k kernelTool) checkLines(args []string, want func(cache string) string) {
	k.t.Helper()
	_, list, _ := strings.Cut(k.run(args...), "\n")
	n := 0
	for line := range strings.Lines(list) {
		got := strings.Join(strings.Fields(line), " ")
		cache, _, _ := strings.Cut(got, " ")
		if want := want(cache); got != want {
			k.t.Errorf("slabinfo %q shows %q; want %q", args, got, want)
		}
		n++
	}
	if want := len(k.directories()); n != want {
		k.t.Errorf("slabinfo %q shows %d caches; want %d:\n%s", args, n, want, list)
	}
}

func TestKernelTool(t *testing.T) {
	t.Parallel()
	k := startKernelTool(t)
	for _, n := range []string{"1000", "0"} { // some allocations and frees, even if the load did none yet
		echo(k.c, k.module("load/hold"), n)
	}
	k.rest(t)

	for _, order := range []string{"-z", "-zS", "-zL1", "-zP", "-zA"} { // by name, size, loss, partial slabs, activity
		want := k.line
		if order == "-zL1" { // shows the loss instead of the size
			want = func(cache string) string {
				f := strings.Fields(k.line(cache))
				f[3] = fmt.Sprint(k.bytes(cache) - k.figure(cache, "objects")*k.figure(cache, "object_size"))
				return strings.Join(f, " ")
			}
		}
		k.checkLines([]string{"-B", order}, want)
	}

	t.Run("files", func(t *testing.T) { // all that it would show, it finds
		k.t = t
		for _, file := range []string{
			"cache_dma", "poison", "red_zone", "sanity_checks", "store_user", "trace", "validate",
			"alloc_fastpath", "alloc_slowpath", "free_fastpath", "free_slowpath", "order_fallback",
		} {
			if r := k.c.Do(Op{Do: "stat", Path: k.attr("load-small", file)}); r.Errno != 0 {
				t.Errorf("%s: %v; want such a file", file, r.Errno)
			}
		}
	})

	t.Run("activity", func(t *testing.T) {
		k.t = t
		busy := false
		k.checkLines([]string{"-D", "-z"}, func(cache string) string {
			share := func(fast, slow string) (sum, percent int) {
				sum = k.figure(cache, fast) + k.figure(cache, slow)
				if sum > 0 {
					percent = k.figure(cache, fast) * 100 / sum
				}
				return sum, percent
			}
			allocs, fastAllocs := share("alloc_fastpath", "alloc_slowpath")
			frees, fastFrees := share("free_fastpath", "free_slowpath")
			busy = busy || allocs > 0 && frees > 0
			return fmt.Sprint(cache, " ", k.figure(cache, "objects"), allocs, frees, fastAllocs, fastFrees, k.figure(cache, "order_fallback"),
				k.figure(cache, "order"), k.figure(cache, "cmpxchg_double_fail"), k.figure(cache, "cmpxchg_double_cpu_fail"))
		})
		if !busy {
			t.Error("it shows no allocation and no free of any cache")
		}
	})

	t.Run("report", func(t *testing.T) {
		k.t = t
		// Either a number or a word, each after a name and a colon.
		pairs := regexp.MustCompile(`([A-Z]\w*(?: Checks)?) *: +(\d+|On|Off)\b`)
		for _, cache := range []string{"load-small", "load-large", "kmalloc-64"} {
			onOff := func(file string) string {
				if k.figure(cache, file) != 0 {
					return "On"
				}
				return "Off"
			}
			f := func(file string) int { return k.figure(cache, file) }
			objects, slabs, used := f("objects"), f("slabs"), f("objects")*f("object_size")
			slabSize := 4096 << f("order")
			want := fmt.Sprint([]any{
				"Aliases", f("aliases"), "Order", f("order"), "Objects", objects,
				"Object", f("object_size"), "Total", slabs, "Sanity Checks", onOff("sanity_checks"), "Total", k.bytes(cache),
				"SlabObj", f("slab_size"), "Full", slabs - f("partial") - f("cpu_slabs"), "Redzoning", onOff("red_zone"), "Used", used,
				"SlabSiz", slabSize, "Partial", f("partial"), "Poisoning", onOff("poison"), "Loss", k.bytes(cache) - used,
				"Loss", f("slab_size") - f("object_size"), "CpuSlab", f("cpu_slabs"), "Tracking", onOff("store_user"), "Lalig", (f("slab_size") - f("object_size")) * objects,
				"Align", f("align"), "Objects", f("objs_per_slab"), "Tracing", onOff("trace"), "Lpadd", (slabSize - f("objs_per_slab")*f("slab_size")) * slabs,
			}...)
			report := k.run("-r", cache)
			var got []any
			for _, m := range pairs.FindAllStringSubmatch(report, -1) {
				got = append(got, m[1], m[2])
			}
			if fmt.Sprint(got...) != want {
				t.Errorf("slabinfo -r %s:\n%s\nwant\n%s\nit said:\n%s", cache, fmt.Sprint(got...), want, report)
			}
		}
	})

	t.Run("totals", func(t *testing.T) {
		k.t = t
		all := k.directories()
		active, bytes, objects, partial, used := 0, 0, 0, 0, 0
		for _, cache := range all {
			if n := k.figure(cache, "objects"); n > 0 {
				active++
				bytes += k.bytes(cache)
				objects += n
				partial += k.figure(cache, "objects_partial")
				used += n * k.figure(cache, "object_size")
			}
		}
		got := k.run("-T", "-B")
		for _, want := range []string{
			fmt.Sprintf(`Slabcaches : +%d `, len(all)), fmt.Sprintf(`Active: +%d\n`, active),
			fmt.Sprintf(`Memory used: +%d `, bytes), fmt.Sprintf(`# Loss +: +%d `, bytes-used),
			fmt.Sprintf(`# Objects +: +%d `, objects), fmt.Sprintf(`# PartObj: +%d `, partial),
		} {
			if !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("slabinfo -T -B:\n%s\nwant %q", got, want)
			}
		}
	})

	t.Run("aliases", func(t *testing.T) {
		k.t = t
		links := 0
		for _, e := range k.c.OK(Op{Do: "readdir", Path: k.path("sys/kernel/slab")}).Entries {
			if e.Type == unix.DT_LNK {
				links++
			}
		}
		got := k.run("-a", "-f", "-i") // each link on a line of its own
		if n := strings.Count(got, " -> "); n != links {
			t.Errorf("slabinfo -a -f -i shows %d aliases; there are %d links:\n%s", n, links, got)
		}
	})

	t.Run("shrink", func(t *testing.T) {
		k.t = t
		if out := k.run("-s"); out != "" {
			t.Errorf("slabinfo -s prints %q; want nothing", out)
		}
		for _, cache := range k.directories() {
			slabs, partial := k.figure(cache, "slabs"), k.figure(cache, "partial")
			if cpu, free := k.figure(cache, "cpu_slabs"), k.figure(cache, "objects"); cpu != 0 || slabs > free || partial > slabs {
				t.Errorf("%s after slabinfo -s: %s; want nothing kept by CPUs, no empty slab", cache, k.line(cache))
			}
		}
	})

	t.Run("validate", func(t *testing.T) {
		k.t = t
		if out := k.run("-v"); out != "" {
			t.Errorf("slabinfo -v prints %q; want nothing", out)
		}
	})
}

// While caches come and go the tool ends when one goes that it was about to look
// at, on Linux as well. In all else it works.
func TestKernelToolWhileCachesComeAndGo(t *testing.T) {
	t.Parallel()
	k := startKernelTool(t)
	race := regexp.MustCompile(`^(Unable to access slab|Unresolved alias|Cannot read symlink) .*\n$`)
	row := regexp.MustCompile(`^(\S+) +(-?\d+ +){2}\d+ +\d+/\d+/\d+( +-?\d+){4} [*dAPaZFUT]*$`)
	look := func() (status int, errs string) {
		status, out, errs := finish(t, k.exec("slabinfo", "-B", "-z"))
		if status != 0 {
			return status, errs
		}
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		for _, line := range lines[1:] {
			if !row.MatchString(line) {
				t.Errorf("slabinfo shows %q", line)
			}
		}
		if !strings.Contains(out, "\nkmalloc-64 ") || len(lines) < 10 || errs != "" {
			t.Errorf("slabinfo shows\n%s%s", out, errs)
		}
		return status, errs
	}
	// It lists the caches once and then goes into each directory, so that it seldom
	// gets to the end.
	count, stop := k.churn(t)
	for n := 0; n < 40 || count.Load() < 20; n++ {
		if status, errs := look(); status != 0 && (status != 1 || !race.MatchString(errs)) {
			t.Fatalf("slabinfo: status %d, %q; want 0, or its own race", status, errs)
		}
	}
	stop()
	if status, errs := look(); status != 0 {
		t.Errorf("slabinfo, when caches come and go no more: status %d, %q; want 0", status, errs)
	}
}
