package stress

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// abort breaks the connection of the mount on dir, if there is one, and
// detaches the mount. Every thread that waits in the kernel for an answer gets
// an error instead. Unmounting would wait for these threads. Ending the process
// would not release them either, if one of its own threads waits in the kernel
// for a lock that they hold.
func abort(dir string) {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil || len(mounts) == 0 {
		return
	}
	// This works for the user who mounted, if the control file system is
	// mounted.
	_ = os.WriteFile(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", mounts[0].Minor), []byte("1"), 0)
	if os.Geteuid() == 0 {
		_ = unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		return
	}
	_ = exec.Command("fusermount3", "-uz", "--", dir).Run()
}
