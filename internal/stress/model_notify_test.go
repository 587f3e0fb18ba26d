//go:build fault_notify_under_locks

package stress

import "slabfs/alloc"

func (m *model) Forget(c *alloc.Cache, name string) (drain func()) {
	if name != c.ID() {
		m.Unlink(c, name)
		return func() {}
	}
	return m.dir(name).Forget()
}
