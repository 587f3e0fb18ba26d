package fusefs

import (
	"slabfs/internal/fault"
	"slabfs/internal/lockdep"
	"slabfs/sysfs"
)

// observer returns removed. With fault.NotifyUnderLocks it returns deleteAll,
// which is a mistake.
func (s *Server) observer() func(sysfs.Removal) {
	if fault.Injected() == fault.NotifyUnderLocks {
		return s.deleteAll
	}
	return s.removed
}

// deleteAll waits for the inode locks of every file and of the directory.
func (s *Server) deleteAll(r sysfs.Removal) {
	for _, n := range s.fs.below(r.Node) {
		unlocked := inodeLocked(r.Node, lockdep.Exclusive)
		inodeLocked(n, lockdep.Exclusive)()
		unlocked()
		s.fuse.DeleteNotify(nodeID(r.Node), nodeID(n), n.Name())
	}
	inodeLocked(r.Parent, lockdep.Exclusive)()
	s.fuse.DeleteNotify(nodeID(r.Parent), nodeID(r.Node), r.Node.Name())
}
