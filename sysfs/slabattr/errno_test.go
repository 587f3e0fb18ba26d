package slabattr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"syscall"
	"testing"

	"slabfs/alloc"
)

// Every error of the allocator has a number, and the Stores of a cache add it.
func TestErrno(t *testing.T) {
	source, err := os.ReadFile("../../alloc/errors.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(regexp.MustCompile(`(?m)^\tErr\w+ += `).FindAll(source, -1)); n != len(numbers) {
		t.Errorf("%d errors of package alloc have a number; want all %d", len(numbers), n)
	}
	a, _ := newTree(t)
	c, err := a.NewCache("errno", 64, alloc.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range numbers {
		fails := store(func(context.Context, *alloc.Cache, []byte) error { return fmt.Errorf("fail: %w", want.is) })
		var got syscall.Errno
		if err := fails(t.Context(), c, nil); !errors.Is(err, want.is) || !errors.As(err, &got) || got != want.errno {
			t.Errorf("a store that fails with %q: %v, number %d; want %d", want.is, err, got, want.errno)
		}
	}
}
