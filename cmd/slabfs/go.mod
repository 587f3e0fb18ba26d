module slabfs/cmd/slabfs

go 1.25.0

require (
	github.com/bytedance/gopkg v0.1.4
	github.com/moby/sys/mountinfo v0.7.3
	github.com/spf13/cobra v1.10.2
	github.com/spf13/pflag v1.0.9
	golang.org/x/sys v0.46.0
	modernc.org/memory v1.12.1
	slabfs v0.0.0
)

require (
	github.com/hanwen/go-fuse/v2 v2.12.1 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
)

replace slabfs => ../..
