package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestCalledByMount(t *testing.T) {
	for _, tc := range []struct {
		line string
		want bool
	}{
		{"slabfs none /mnt -o rw,dev,suid", true},
		{"/usr/bin/slabfs slabfs /mnt -o rw", true},
		{"slabfs tag#x /mnt -v -o rw", true},
		{"/sbin/mount.fuse.slabfs none mnt", true},
		{"mount.slabfs", true},
		{"slabfs", false},
		{"slabfs --help", false},
		{"slabfs mout /mnt", false},
		{"slabfs mout /mnt --load", false},
		{"slabfs mout mnt -o ro", false},
		{"slabfs mount /mnt -o ro", false},
		{"slabfs exec /mnt ps -o pid", false},
		{"slabfs --nonsense /mnt -o ro", false},
	} {
		if got := calledByMount(strings.Fields(tc.line)); got != tc.want {
			t.Errorf("calledByMount(%s) = %v; want %v", tc.line, got, tc.want)
		}
	}
}

func TestSplitOptions(t *testing.T) {
	for _, tc := range []struct{ lists, want []string }{
		{nil, nil},
		{[]string{"rw"}, []string{"rw"}},
		{[]string{"rw,load", "ro"}, []string{"rw", "load", "ro"}},
		{[]string{",rw,,load,"}, []string{"rw", "load"}},
		{[]string{`cache="a:8:no_merge,hwcache_align",load`}, []string{"cache=a:8:no_merge,hwcache_align", "load"}},
		{[]string{`"cache=a:8:x,y"`, "ro"}, []string{"cache=a:8:x,y", "ro"}},
	} {
		if got := splitOptions(tc.lists); !slices.Equal(got, tc.want) {
			t.Errorf("splitOptions(%q) = %q; want %q", tc.lists, got, tc.want)
		}
	}
}

// Flags of mount are mount options, except daemon and options.
func TestSetOptions(t *testing.T) {
	for _, tc := range []struct {
		options string
		set     string // flags, in order
		err     string
	}{
		{options: "defaults,noauto,nofail,user=me,_netdev,x-a=b,X-c,comment=d,noatime,dev,suid,exec"},
		{options: "load,debug,no_merge", set: "debug=true load=true no-merge=true"},
		{options: "load,load=false"},
		{options: "memory_limit=1K,log-file=/l", set: "log-file=/l memory-limit=1024"},
		{options: "cache=a:8,cache=b:9", set: "cache=[a:8,b:9]"},
		{options: "ro,allow_other,context=a:b", set: "options=[ro,allow_other,context=a:b]"},
		{options: "uid=1,gid=2,umask=027", set: "options=[uid=1,gid=2,umask=027]"},
		{options: "context", err: `"context": unknown`},
		{options: "load,remount,ro", set: "load=true", err: "unmount it and mount it again"},
		{options: "daemon", err: `"daemon": unknown`},
		{options: "options=ro", err: `"options=ro": unknown`},
		{options: "memory_limit", err: "want memory_limit=VALUE"},
		{options: "memory_limit=x", err: "64M"},
		{options: "nonsense=1", err: `"nonsense=1": unknown`},
	} {
		flags := newMountCommand().Flags()
		err := setOptions(flags, strings.Split(tc.options, ","), false)
		if err == nil && tc.err != "" || err != nil && (tc.err == "" || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("setOptions(%s): %v; want an error with %q", tc.options, err, tc.err)
		}
		var set []string
		flags.VisitAll(func(f *pflag.Flag) {
			if v := f.Value.String(); v != f.DefValue {
				set = append(set, f.Name+"="+v)
			}
		})
		if got := strings.Join(set, " "); got != tc.set {
			t.Errorf("setOptions(%s) sets %s; want %s", tc.options, got, tc.set)
		}
	}
	if err := setOptions(newMountCommand().Flags(), []string{"nonsense", "x"}, true); err != nil {
		t.Errorf("sloppy: %v", err)
	}
}
