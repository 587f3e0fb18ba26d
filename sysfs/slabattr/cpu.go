package slabattr

import (
	"bytes"
	"context"
	"fmt"

	"slabfs/alloc"
	"slabfs/internal/cpu"
	"slabfs/sysfs"
)

// cpuAttrs are the files of sys/devices/system/cpu: the CPUs that the allocator
// uses, as cpulists.
var cpuAttrs = []*sysfs.Attribute{
	cpuList("possible", func(h *cpu.Hotplug) cpu.Mask { return h.Possible() }),
	cpuList("present", func(*cpu.Hotplug) cpu.Mask { return cpu.Present() }),
	cpuList("online", func(h *cpu.Hotplug) cpu.Mask { return h.Online() }),
	cpuList("offline", func(h *cpu.Hotplug) cpu.Mask {
		offline := h.Possible().Clone()
		for n := range h.Online().All() {
			offline.Clear(n)
		}
		return offline
	}),
}

func cpuList(name string, get func(*cpu.Hotplug) cpu.Mask) *sysfs.Attribute {
	return &sysfs.Attribute{Name: name, Mode: 0o444, Show: func(_ context.Context, obj any, w *bytes.Buffer) error {
		_, err := fmt.Fprintln(w, get(obj.(*alloc.Allocator).Hotplug()))
		return err
	}}
}

// oneCPU is the object of a directory cpuN.
type oneCPU struct {
	a *alloc.Allocator
	n int
}

// onlineAttr is cpuN/online. Its Store drains nothing, so it may run while
// caches come and go.
var onlineAttr = &sysfs.Attribute{
	Name: "online", Mode: 0o644,
	Show: func(_ context.Context, obj any, w *bytes.Buffer) error {
		c, text := obj.(oneCPU), "0\n"
		if c.a.Hotplug().Online().Has(c.n) {
			text = "1\n"
		}
		w.WriteString(text)
		return nil
	},
	Store: func(ctx context.Context, obj any, data []byte) error {
		online, err := sysfs.ParseBool(data)
		if err != nil {
			return err
		}
		c := obj.(oneCPU)
		return errno(c.a.SetOnlineContext(ctx, c.n, online))
	},
}
