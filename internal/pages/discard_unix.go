//go:build unix && !linux && !race

package pages

import "golang.org/x/sys/unix"

const adviceDiscard = unix.MADV_FREE
