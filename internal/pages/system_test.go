package pages

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// onSystemPages runs the test again where the system's page has so many bytes, and
// reports true there.
func onSystemPages(t *testing.T, size int) bool {
	t.Helper()
	if os.Getenv(pageSizeEnv) != "" {
		return os.Getenv(pageSizeEnv) == fmt.Sprint(size)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), pageSizeEnv+"="+fmt.Sprint(size))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a child process with system pages of %d bytes: %v\n%s", size, err, out)
	}
	return false
}

// Memory comes and goes by whole system pages: what lies beside freed pages keeps
// its content, and Return leaves nothing else.
func TestSystemPages(t *testing.T) {
	for _, size := range []int{16 << 10, 64 << 10} {
		if !onSystemPages(t, size) {
			continue
		}
		const n = 2 * blockPages
		p, err := AllocRun(n, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range Page(n) {
			copy(bytesOf(p+i, 1), bytes.Repeat([]byte{byte(i) | 1}, Size))
		}
		free := func(q Page) bool { return q%4 == 0 || q%64 < 37 }
		for q := p; q < p+n; q++ {
			if free(q) {
				FreeRun(q, 1)
			}
		}
		Return(0)
		per, left := Page(SystemPage()/Size), int64(0)
		for q := p; q < p+n; q += per {
			used := 0
			for i := range per {
				if !free(q + i) {
					used++
					if b := bytesOf(q+i, 1); b[0] != byte(q+i-p)|1 || b[Size-1] != b[0] {
						t.Fatalf("page %d lost its content when others were given back", q+i)
					}
				}
			}
			if used > 0 {
				left += int64(int(per)-used) << Shift
			}
		}
		if Warm() != left {
			t.Errorf("%d bytes are free and have memory; want %d, those beside pages in use", Warm(), left)
		}
		checkHeap(t)
		for q := p; q < p+n; q++ {
			if !free(q) {
				FreeRun(q, 1)
			}
		}
		if Return(0); Warm() != 0 || Mapped() != 0 {
			t.Errorf("%d bytes free, %d mapped, with nothing in use", Warm(), Mapped())
		}
		randomPrograms(t, 20)
	}
}
