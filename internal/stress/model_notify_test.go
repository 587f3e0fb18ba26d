//go:build fault_notify_under_locks

package stress

import "slabfs/alloc"

func (m *model) Forget(_ *alloc.Cache, name string) (drain func()) { return m.dir(name).Forget() }
