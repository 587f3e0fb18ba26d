package fusefs

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"slabfs/internal/testclient"
	"slabfs/sysfs"
)

// When the write that drops a name returns, nobody finds the name, however many
// do so at once.
func TestManyRemoversFindNothing(t *testing.T) {
	const processes, each, rounds = 4, 30, 40
	tree := sysfs.NewTree()
	type churned struct{} // lockdep tells directories by what they stand for, and this one is changed by stores
	objects, err := tree.Root().Add("objects", churned{})
	if err != nil {
		t.Fatal(err)
	}
	value := newFixture().attr(t, "value")
	control := func(name string, do func(name string) error) *sysfs.Attribute {
		return &sysfs.Attribute{Name: name, Mode: 0o200, Store: func(_ context.Context, _ any, data []byte) error { return do(string(data)) }}
	}
	_, err = tree.Root().Add("control", nil,
		control("make", func(name string) error {
			_, err := objects.Add(name, nil, value)
			return err
		}),
		control("drop", func(name string) error {
			objects.Child(name).(*sysfs.Kobject).Remove()
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, tree, Options{MaxStores: processes * each})
	s.notifier.wait.Store(int64(time.Minute)) // the machine may be slow
	var all []*testclient.Pending
	for p := range processes {
		c := testclient.Start(t, testclient.Options{})
		for i := range each {
			name := fmt.Sprintf("name%d-%d", p, i)
			all = append(all, c.Go(Op{Do: "churn", Path: s.at("control"), Path2: filepath.Join(s.at("objects"), name), Data: []byte(name), Size: rounds}))
		}
	}
	var there int64
	for _, p := range all {
		r := p.Wait()
		if r.Errno != 0 {
			t.Errorf("churn: %v", r.Errno)
		}
		there += r.N
	}
	if there > 0 {
		t.Errorf("%d of %d names were found after they were dropped", there, len(all)*rounds)
	}
}
