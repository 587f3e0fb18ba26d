package stress

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

// The judge's report on a world that has come to a halt: who waits for whom,
// the stacks of these parties, and a file with all stacks.

// A party is a role in a deadlock. A goroutine has the role if all of these
// functions are in its stack.
type party struct {
	name      string
	holds     string // locks that it holds while it waits
	waits     string // what it waits for
	functions []string
}

var (
	drains = &party{"a destroy that drains", "cpu_hotplug_lock (read), slab_mutex", "active references of the cache's files",
		[]string{"alloc.(*Allocator).destroy", "sysfs.(*Kobject).Remove(", "lockdep.(*Cond).Wait("}}
	notifies = &party{"a destroy that notifies the kernel", "cpu_hotplug_lock (read), slab_mutex", "the inode lock of a file",
		[]string{"alloc.(*Allocator).destroy", "Notify(", "unix."}}
	publishes = &party{"a create that publishes", "slab_mutex", "slab_mutex",
		[]string{"alloc.(*Allocator).NewCache(", ".Publish(", "lockdep.(*Mutex).Lock("}}
	stores = &party{"a store", "an active reference of its file, and its client the inode lock", "cpu_hotplug_lock (read)",
		[]string{"sysfs.(*File).Store(", "cpu.(*Hotplug).RLockContext("}}
	plugs = &party{"a hotplug writer, queued", "no lock, but readers that come later wait behind it", "cpu_hotplug_lock (written)",
		[]string{"cpu.(*Hotplug).Lock("}}
	wantsNames = &party{"a call of the allocator", "", "slab_mutex",
		[]string{"alloc.(*Allocator).", "lockdep.(*Mutex).Lock("}}
	actors = &party{"an actor", "", "", []string{"stress.(*world).act.func"}}
)

// in returns the stacks of the goroutines that have this role.
func (p *party) in(goroutines []string) (list []string) {
	for _, g := range goroutines {
		if !slices.ContainsFunc(p.functions, func(f string) bool { return !strings.Contains(g, f) }) {
			list = append(list, g)
		}
	}
	return list
}

// explainHang says in three lines who waits for whom according to the stacks of
// all goroutines, and returns the parties.
func explainHang(all []string) (why []string, parties []*party) {
	count := func(p *party) int { return len(p.in(all)) }
	waiting, queued := count(stores), count(plugs)
	if waiting > 0 && queued > 0 {
		if n := count(drains); n > 0 {
			return []string{
				fmt.Sprintf("deadlock: %d destroy drains: it waits for active references, with cpu_hotplug_lock and slab_mutex held;", n),
				fmt.Sprintf("%d stores have these references, and wait to read cpu_hotplug_lock, behind a queued writer;", waiting),
				fmt.Sprintf("%d hotplug writer is queued, and waits for the last reader: the destroy, which drains with the lock held.", queued),
			}, []*party{drains, stores, plugs}
		}
		if n := count(notifies); n > 0 {
			return []string{
				fmt.Sprintf("deadlock: %d destroy notifies the kernel: it waits for the inode lock of a file, with cpu_hotplug_lock and slab_mutex held;", n),
				fmt.Sprintf("the clients of %d stores have these inode locks, and the stores wait to read cpu_hotplug_lock, behind a queued writer;", waiting),
				fmt.Sprintf("%d hotplug writer is queued, and waits for the last reader: the destroy, which notifies with the lock held.", queued),
			}, []*party{notifies, stores, plugs}
		}
	}
	if n := count(publishes); n > 0 {
		return []string{
			fmt.Sprintf("deadlock: %d create is in the Publish of a tree, which asks for slab_mutex;", n),
			"no other goroutine holds slab_mutex: the create, which publishes with the lock held, waits for itself;",
			fmt.Sprintf("%d goroutines wait for slab_mutex.", count(wantsNames)),
		}, []*party{publishes}
	}
	return []string{
		"it is none of the known circles:",
		fmt.Sprintf("%d stores and %d hotplug writers wait for cpu_hotplug_lock, %d goroutines for a mutex of the allocator;", waiting, queued, count(wantsNames)),
		"the list below starts with the longest wait, and the dump shows where each goroutine waits.",
	}, []*party{stores, plugs, wantsNames, actors}
}

// maxCalls bounds the list of calls under way.
const maxCalls = 8

// hang records that the world has come to a halt. It prints who waits for whom,
// and keeps the stacks of all goroutines in a file.
func (j *judge) hang(stacks string) {
	goroutines := strings.Split(stacks, "\n\n")
	why, parties := explainHang(goroutines)
	f := finding{count: 1, op: ops, why: why}
	calls := j.lateCalls(j.config.Deadline / 10)
	switch late := j.lateCalls(j.config.Deadline); {
	case len(late) > 0:
		f.op = late[0].Op
		f.what = fmt.Sprintf("%s %q has not ended after %.1f s", opRules[f.op].name, late[0].What, j.age(late[0]).Seconds())
	case j.verdict.Silent:
		f.what = fmt.Sprintf("the process of the allocator has said nothing for %.1f s", (j.clock - j.heard).Seconds())
		f.why = []string{"it is stopped, or none of its goroutines runs:", "it gets SIGQUIT, which makes the Go runtime print their stacks."}
	default:
		f.what = fmt.Sprintf("the run should have ended %.1f s ago and has not", (j.clock - j.endAt).Seconds())
	}
	f.told = true
	j.found = append(j.found, f)
	j.clearLine()
	j.describe(f)
	fmt.Fprintf(j.err, "\n%d calls wait:\n", len(calls))
	for i, u := range calls {
		if i == maxCalls {
			fmt.Fprintf(j.err, "           and %d more\n", len(calls)-i)
			break
		}
		fmt.Fprintf(j.err, "  %5.1f s  %s %q\n", j.age(u).Seconds(), opRules[u.Op].name, u.What)
	}
	if stacks == "" {
		return
	}
	for _, p := range parties {
		if list := p.in(goroutines); len(list) > 0 {
			fmt.Fprintf(j.err, "\n%s", p.show(list[0]))
		}
	}
	fmt.Fprintf(j.err, "\n%s\n", keep(stacks))
}

var (
	frame = regexp.MustCompile(`(?m)^(\S+?)\((?:[^()]|\([^()]*\))*\)\n\t(\S+):(\d+)`)
	// uninteresting functions do not say what a goroutine does.
	uninteresting = regexp.MustCompile(`^(runtime|syscall|internal|os|reflect|sync\.(runtime_|\(\*WaitGroup\)))`)
)

// show describes a party by the stack of one goroutine: the locks it holds,
// what it waits for, and the functions that lead there, innermost first.
func (p *party) show(stack string) string {
	var b strings.Builder
	id, _, _ := strings.Cut(stack, " [")
	fmt.Fprintf(&b, "%s, %s\n", p.name, id)
	if p.holds != "" {
		fmt.Fprintf(&b, "  holds      %s\n", p.holds)
	}
	if p.waits != "" {
		fmt.Fprintf(&b, "  waits for  %s\n", p.waits)
	}
	for _, m := range frame.FindAllStringSubmatch(stack, -1) {
		if function := path.Base(m[1]); !uninteresting.MatchString(m[1]) {
			fmt.Fprintf(&b, "    %s()  %s:%s\n", function, path.Join(path.Base(path.Dir(m[2])), path.Base(m[2])), m[3])
		}
	}
	return b.String()
}

// keep writes the stacks of all goroutines to a file and returns its name in a
// sentence. If it cannot write the file, it returns the stacks.
func keep(stacks string) string {
	f, err := os.CreateTemp("", "slabfs-stress-*.txt")
	if err == nil {
		_, err = f.WriteString(stacks)
		if e := f.Close(); err == nil {
			err = e
		}
	}
	if err != nil {
		return fmt.Sprintf("cannot write the stacks of all goroutines to a file (%v):\n\n%s", err, stacks)
	}
	return "the stacks of all goroutines are in " + f.Name()
}
