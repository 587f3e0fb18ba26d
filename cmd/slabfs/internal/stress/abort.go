package stress

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// abort breaks the connection of the mount on dir, if there is one, and takes it
// out of the name space. All who wait in the kernel for an answer get an error
// instead. To unmount would wait for them; to end the process would not release
// them while one of its threads waits in the kernel for a lock that they hold.
func abort(dir string) {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil || len(mounts) == 0 {
		return
	}
	// Works for the user who mounted, where the control file system is mounted.
	_ = os.WriteFile(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", mounts[0].Minor), []byte("1"), 0)
	if os.Geteuid() == 0 {
		_ = unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		return
	}
	_ = exec.Command("fusermount3", "-uz", "--", dir).Run()
}
