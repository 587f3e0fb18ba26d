package slabattr

import (
	"os"
	"testing"

	"slabfs/internal/lockdep"
	"slabfs/internal/testclient"
)

func TestMain(m *testing.M) {
	testclient.Main()
	fakeNodes()
	os.Exit(lockdep.Status(m.Run()))
}
