//go:build !race

package pages

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The files that decide about huge pages on each kernel are asked, and HugePages follows
// them.
func TestWhoAllowsHuge(t *testing.T) {
	if !inChild(t) {
		return
	}
	if _, err := os.Stat(thp); err != nil {
		t.Skipf("the kernel is built without huge pages: %v", err)
	}
	const always, inherit, madvise, never = "[always] inherit madvise never", "always [inherit] madvise never",
		"always inherit [madvise] never", "always inherit madvise [never]"
	for _, tc := range []struct {
		size, all, bytes string // what files say; "" is no file
		why              string // a part of the reason; "" if they are allowed
	}{
		{"", "", "", ""},
		{"", "[always] madvise never", "2097152", ""},
		{"", "always [madvise] never", "2097152", ""},
		{"", "always madvise [never]", "2097152", "transparent_hugepage/enabled is never"},
		{inherit, "always [madvise] never", "2097152", ""},
		{inherit, "always madvise [never]", "2097152", "transparent_hugepage/enabled is never"},
		{always, "always madvise [never]", "2097152", ""},
		{madvise, "always madvise [never]", "2097152", ""},
		{never, "[always] madvise never", "2097152", "hugepages-2048kB/enabled is never"},
		{inherit, "[always] madvise never", "33554432", "they have 33554432 bytes"},
	} {
		thp = filepath.Join(t.TempDir(), "transparent_hugepage") + "/"
		for file, text := range map[string]string{"hugepages-2048kB/enabled": tc.size, "enabled": tc.all, "hpage_pmd_size": tc.bytes} {
			if err := os.MkdirAll(filepath.Dir(thp+file), 0o755); err != nil {
				t.Fatal(err)
			}
			if text == "" {
				continue
			}
			if err := os.WriteFile(thp+file, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		heap.huge = HugeAlways
		want := HugeAlways
		if tc.why != "" {
			want = HugeNever
		}
		if got := HugePages(); got != want {
			t.Errorf("%+v: %v is asked for, and it reads as %v; want %v", tc, HugeAlways, got, want)
		}
		heap.huge = HugeSystem
		err := SetHuge(HugeAlways)
		if tc.why == "" && err != nil || tc.why != "" && (!errors.Is(err, ErrNoHuge) || !strings.Contains(err.Error(), tc.why) || HugePages() != HugeSystem) {
			t.Errorf("%+v: SetHuge(%v) = %v; it is %v", tc, HugeAlways, err, HugePages())
		}
	}
}

// A process that has switched huge pages off has none, and says so; it may make an exception of
// memory that asks for them.
func TestProcessWithoutHuge(t *testing.T) {
	if !inChild(t) {
		return
	}
	if err := noHuge(); err != nil {
		t.Skip(err)
	}
	if err := SetHuge(HugeAlways); err != nil {
		t.Skip(err)
	}
	set := func(off, flags uintptr) error { return unix.Prctl(unix.PR_SET_THP_DISABLE, off, flags, 0, 0) }
	if err := set(1, 0); err != nil {
		t.Fatal(err)
	}
	if err := SetHuge(HugeAlways); !errors.Is(err, ErrNoHuge) || !strings.Contains(err.Error(), "PR_SET_THP_DISABLE") || HugePages() != HugeNever {
		t.Errorf("where the process has none: SetHuge(%v) = %v; it is %v", HugeAlways, err, HugePages())
	}
	if err := set(1, unix.PR_THP_DISABLE_EXCEPT_ADVISED); err == nil && HugePages() != HugeAlways { // before Linux 6.18: EINVAL
		t.Errorf("where the process has some for memory that asks: it is %v", HugePages())
	}
	if err := set(0, 0); err != nil {
		t.Fatal(err)
	}
	if HugePages() != HugeAlways {
		t.Errorf("where the process has them again: it is %v", HugePages())
	}
}
