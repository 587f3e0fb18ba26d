package sysfs

import (
	"context"
	"testing"

	"slabfs/internal/fault"
)

// An active reference ends before its drain does, or is counted.
func TestOutlived(t *testing.T) {
	for _, tc := range []struct {
		inject string
		want   uint64
	}{{"", 0}, {fault.NoDrain, 1}} {
		if tc.inject != "" {
			if err := fault.Inject(tc.inject); err != nil {
				t.Fatal(err)
			}
			defer fault.Reset()
		}
		tree := NewTree()
		begun, end := make(chan struct{}), make(chan struct{})
		dir, err := tree.Root().Add("dir", nil, &Attribute{Name: "file", Mode: 0o200, Store: func(context.Context, any, []byte) error {
			close(begun)
			<-end
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		file := dir.Child("file").(*File)
		stored, removed := make(chan error), make(chan struct{})
		go func() {
			_, err := file.Store(context.Background(), []byte("1"))
			stored <- err
		}()
		<-begun
		go func() {
			dir.Remove()
			close(removed)
		}()
		if tc.inject != "" {
			<-removed
		}
		close(end)
		if err := <-stored; err != nil {
			t.Error(err)
		}
		<-removed
		if got := tree.Stats().Outlived; got != tc.want {
			t.Errorf("inject %q: %d active references outlived their drain; want %d", tc.inject, got, tc.want)
		}
	}
}
