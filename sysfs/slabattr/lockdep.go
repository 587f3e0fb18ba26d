package slabattr

import (
	"bytes"
	"context"
	"io"

	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// procAttrs returns the files of proc. The files of lockdep exist only if
// lockdep checks.
func procAttrs() []*sysfs.Attribute {
	if !lockdep.Enabled() {
		return []*sysfs.Attribute{slabinfoAttr}
	}
	return append([]*sysfs.Attribute{slabinfoAttr}, lockdepAttrs...)
}

var lockdepAttrs = []*sysfs.Attribute{
	lockdepFile("lockdep", lockdep.WriteClasses),
	lockdepFile("lockdep_chains", lockdep.WriteChains),
	lockdepFile("lockdep_stats", lockdep.WriteStats),
	lockdepFile("lockdep_dot", lockdep.WriteDOT),
	lockdepFile("lockdep_report", func(w io.Writer) error {
		_, err := io.WriteString(w, lockdep.Report())
		return err
	}),
}

func lockdepFile(name string, write func(io.Writer) error) *sysfs.Attribute {
	return &sysfs.Attribute{
		Name: name, Mode: readOnly, Seq: true,
		Show: func(_ context.Context, _ any, w *bytes.Buffer) error { return write(w) },
		Size: func(any) int64 {
			var b bytes.Buffer
			if write(&b) != nil {
				return 0
			}
			return block(2 * b.Len()) // leaves room for what is added before the read
		},
	}
}
