package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const slabinfoHead = "slabinfo - version: 2.1\n" +
	"# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>" +
	" : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n"

// A row is what a line of proc/slabinfo tells.
type row struct{ active, total, size, perSlab, pages, slabs uint32 }

var slabName = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,60}$`)

// parseSlabinfo is stricter than all the parsers that are known: each line must
// be exactly what the kernel would have printed.
func parseSlabinfo(text string) (map[string]row, error) {
	body, found := strings.CutPrefix(text, slabinfoHead)
	if !found {
		return nil, fmt.Errorf("it begins with %.300q", text)
	}
	rows := make(map[string]row)
	for line := range strings.Lines(body) {
		var name string
		var r row
		_, err := fmt.Sscan(line, &name, &r.active, &r.total, &r.size, &r.perSlab, &r.pages)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		if r.perSlab > 0 {
			r.slabs = r.total / r.perSlab
		}
		printed := fmt.Sprintf("%-17s %6d %6d %6d %4d %4d : tunables %4d %4d %4d : slabdata %6d %6d %6d\n",
			name, r.active, r.total, r.size, r.perSlab, r.pages, 0, 0, 0, r.slabs, r.slabs, 0)
		_, again := rows[name]
		if line != printed || !slabName.MatchString(name) || len(strings.Fields(line)) != 16 || r.active > r.total || again {
			return nil, fmt.Errorf("line %q; want a name for the first time, 16 words, and exactly %q", line, printed)
		}
		rows[name] = r
	}
	return rows, nil
}

// table returns the caches of proc/slabinfo.
func (s *session) table(t *testing.T) map[string]row {
	t.Helper()
	rows, err := parseSlabinfo(cat(s.c, s.path("proc/slabinfo")))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// churn makes and destroys a hundred caches a second until stop, and counts them.
// Some could merge with others.
func (s *session) churn(t *testing.T) (count *atomic.Int64, stop func()) {
	t.Helper()
	c := s.user.client(t)
	count = new(atomic.Int64)
	write := func(file, text string) {
		r := c.Do(Op{Do: "echo", Path: s.module(file), Data: []byte(text + "\n")})
		if r.Errno != 0 {
			t.Errorf("echo %q > %s: %v", text, file, r.Errno)
		}
	}
	name := func(i int) string { return fmt.Sprintf("churn-%d%s", i, strings.Repeat(".x", i%24)) }
	end := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		const live = 5
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		n := 0
		for more := true; more; n++ {
			write("new_cache", fmt.Sprintf("%s %d %s", name(n), 8<<(n%10), []string{"", "flags=no_merge", "align=64"}[n%3]))
			if n >= live {
				write("delete_cache", name(n-live))
			}
			count.Add(1)
			select {
			case <-tick.C:
			case <-end:
				more = false
			}
		}
		for i := max(n-live, 0); i < n; i++ {
			write("delete_cache", name(i))
		}
	})
	stop = sync.OnceFunc(func() {
		close(end)
		done.Wait()
	})
	t.Cleanup(stop)
	return count, stop
}

// However it is read, and whatever comes and goes meanwhile, a reader gets whole
// lines, and each cache at most once.
func TestSlabinfo(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := &session{server: root.mount(t, root.newDir(t, true), "--load"), c: root.client(t)}
	path := s.path("proc/slabinfo")
	if st := s.c.OK(Op{Do: "stat", Path: path}).Stat; st.Mode != unix.S_IFREG|0o400 || st.Size < int64(len(cat(s.c, path))) || st.Size%4096 != 0 || st.Blksize != st.Size {
		t.Errorf("proc/slabinfo: mode %#o, size %d, in blocks of %d; want 0400, not below the content, in one block", st.Mode, st.Size, st.Blksize)
	}
	stay := slices.Collect(maps.Keys(s.table(t)))
	count, stop := s.churn(t)
	fd := s.c.OK(Op{Do: "open", Path: path}).FD // as slabtop keeps it open
	readings := map[string]bool{}
	check := func(how, text string) {
		t.Helper()
		rows, err := parseSlabinfo(text)
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		for _, name := range stay {
			if _, ok := rows[name]; !ok {
				t.Errorf("%s: %s is missing:\n%s", how, name, text)
			}
		}
		readings[text] = true
	}
	for n := 0; n < 10 || count.Load() < 20; n++ {
		for _, size := range []int{1, 37, 4096, 64 << 10} {
			check(fmt.Sprintf("reads of %d bytes", size), string(s.c.OK(Op{Do: "cat", Path: path, Size: size}).Data))
		}
		check("sendfile", string(s.c.OK(Op{Do: "sendcat", Path: path}).Data))
		s.c.OK(Op{Do: "lseek", FD: fd, Flags: unix.SEEK_SET})
		var text []byte
		for {
			r := s.c.Do(Op{Do: "read", FD: fd, Size: 1024})
			if r.Errno != 0 && r.Errno != unix.EINTR {
				t.Fatalf("read proc/slabinfo: %v", r.Errno)
			}
			if r.Errno == 0 && r.N == 0 {
				break
			}
			text = append(text, r.Data...)
		}
		check("a file that stays open", string(text))
	}
	stop()
	if len(readings) < 10 {
		t.Errorf("%d different tables were read; want more", len(readings))
	}
	s.c.OK(Op{Do: "close", FD: fd})
}

// The CPU lists are as in Linux, and agree with each other.
func TestCPULists(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := &session{server: root.mount(t, root.newDir(t, true)), c: root.client(t)}
	const dir = "sys/devices/system/cpu"
	list := regexp.MustCompile(`^((\d+(-\d+)?)(,\d+(-\d+)?)*)?\n$`)
	for _, name := range []string{"possible", "present", "online", "offline"} {
		path := s.path(dir, name)
		text := cat(s.c, path)
		if !list.MatchString(text) {
			t.Errorf("%s = %q; want a cpulist", name, text)
		}
		st := s.c.OK(Op{Do: "stat", Path: path}).Stat
		if live, err := os.Stat(filepath.Join("/", dir, name)); err == nil && (uint32(live.Mode()) != st.Mode&0o777 || live.Size() != st.Size) {
			t.Errorf("%s: mode %#o, size %d; in Linux %v, %d", name, st.Mode, st.Size, live.Mode(), live.Size())
		}
		if live, err := os.ReadFile(filepath.Join("/", dir, name)); name[0] == 'p' && err == nil && string(live) != text {
			t.Errorf("%s = %q; in Linux %q", name, text, live)
		}
	}
}
