module slabfs

go 1.25.0

require (
	github.com/hanwen/go-fuse/v2 v2.12.1
	github.com/moby/sys/mountinfo v0.7.3
	golang.org/x/arch v0.28.0
	golang.org/x/sys v0.46.0
)
