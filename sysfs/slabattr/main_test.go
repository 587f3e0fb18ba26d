package slabattr

import (
	"os"
	"testing"

	"slabfs/internal/lockdep"
)

func TestMain(m *testing.M) {
	fakeNodes()
	os.Exit(lockdep.Status(m.Run()))
}
