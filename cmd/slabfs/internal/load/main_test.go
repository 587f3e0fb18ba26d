package load

import (
	"os"
	"testing"

	"slabfs/internal/lockdep"
)

func TestMain(m *testing.M) { os.Exit(lockdep.Status(m.Run())) }
