module slabfs/cmd/slabfs/cpeers

go 1.25.0

require slabfs/cmd/slabfs v0.0.0

require (
	github.com/bytedance/gopkg v0.1.4 // indirect
	github.com/hanwen/go-fuse/v2 v2.12.1 // indirect
	github.com/moby/sys/mountinfo v0.7.3 // indirect
	golang.org/x/sys v0.46.0 // indirect
	modernc.org/memory v1.12.1 // indirect
	slabfs v0.0.0 // indirect
)

replace (
	slabfs => ../../..
	slabfs/cmd/slabfs => ..
)
