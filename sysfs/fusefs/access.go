package fusefs

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"slabfs/sysfs"
)

// setAccess applies the mount options uid, gid and umask to the tree, and
// returns the other options.
func setAccess(t *sysfs.Tree, options []string) (others []string, err error) {
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		base, want := 10, "a number, 0 to 4294967294"
		switch name {
		case "uid", "gid":
		case "umask":
			base, want = 8, "an octal number, 0 to 777"
		default:
			others = append(others, o)
			continue
		}
		n, err := strconv.ParseUint(value, base, 32)
		if err != nil || base == 10 && n == 1<<32-1 || base == 8 && n > 0o777 {
			return nil, fmt.Errorf("mount option %q: want %s", o, want)
		}
		t.SetAccess(func(a *sysfs.Access) {
			switch name {
			case "uid":
				a.UID = uint32(n)
			case "gid":
				a.GID = uint32(n)
			case "umask":
				a.Umask = fs.FileMode(n)
			}
		})
	}
	return others, nil
}
