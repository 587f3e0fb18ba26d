package stress

// The rules. The judge compares the world's counts with them.

// An opRule says how operations of a kind may end.
type opRule struct {
	name string
	may  []outcome
	why  [2]string // what it means if an operation ends in another way
}

var opRules = [ops]opRule{
	opCreate: {"create", []outcome{done, exists}, [2]string{
		"a create failed, but not because the name is taken; for instance, the directory of the old cache was in its way:",
		"the name was released before the unlink had ended."}},
	opCreateOwn: {"create, a name of its own", []outcome{done}, nameTaken},
	opDestroy:   {name: "destroy", may: []outcome{done, missing, busy, gone}},
	opDestroyOwn: {"destroy, its own", []outcome{done}, [2]string{
		"nobody else knows the cache, and all of its objects were freed: its destroy has nothing to fail for;",
		"it either lost an object or met what another destroy had left behind."}},
	opShellCreate:  {name: "echo > new_cache", may: []outcome{done, exists}},
	opShellDestroy: {name: "echo > delete_cache", may: []outcome{done, missing, busy}},
	opShellDestroyOwn: {"echo > delete_cache, its own", []outcome{done}, [2]string{
		"nobody else knows the cache, and all of its objects were freed: its destroy has nothing to fail for;",
		"it either lost an object or met what another destroy had left behind."}},
	opRefuse: {"destroy with live objects", []outcome{busy}, [2]string{
		"a cache was destroyed while objects were live, or the refusal failed in another way;",
		"the holder of these objects now holds memory that belongs to no cache."}},
	opOpen:     {name: "open", may: []outcome{done, missing, gone}},
	opOpenOwn:  {"open, its own", []outcome{done}, notThere},
	opStore:    {name: "store", may: []outcome{done, gone}},
	opStoreOwn: {"store, its own", []outcome{done}, notThere},
	opStoreGone: {"store after the destroy", []outcome{gone}, [2]string{
		"destroy had returned, and a descriptor from before it still reached the cache's files;",
		"the files must be unlinked, and their active references drained, before destroy returns."}},
	opClose:     {name: "close", may: []outcome{done}},
	opRead:      {name: "read", may: []outcome{done, missing, gone}},
	opSlabinfo:  {name: "read slabinfo", may: []outcome{done}},
	opList:      {name: "list the caches", may: []outcome{done}},
	opListCache: {name: "list a cache", may: []outcome{done, missing}},
	opListGone: {"list after the destroy", []outcome{missing}, [2]string{
		"destroy had returned, and the directory of the cache was still there: its unlink came late;",
		"until then the name cannot be used again, and a program that opens a file reaches a cache that is gone."}},
	opAllocate:     {name: "allocate and free 64", may: []outcome{done, gone, noMemory}},
	opHoard:        {name: "allocate at the limit", may: []outcome{done, noMemory}},
	opAttach:       {name: "attach a tree", may: []outcome{done}},
	opDetach:       {name: "detach it", may: []outcome{done}},
	opOnline:       {name: "hotplug lock, read", may: []outcome{done}},
	opHotplug:      {name: "hotplug lock, written", may: []outcome{done}},
	opOffline:      {name: "CPU offline", may: []outcome{done, busy}},
	opOnlineAgain:  {name: "CPU online", may: []outcome{done}},
	opShellOffline: {name: "echo 0 > cpuN/online", may: []outcome{done, busy}},
	opShellOnline:  {name: "echo 1 > cpuN/online", may: []outcome{done}},
	opSection:      {name: "RCU section", may: []outcome{done}},
	opReplace:      {name: "replace under readers", may: []outcome{done, noMemory}},
	opEnd:          {name: "end: close, unmount", may: []outcome{done, detached}},
}

var (
	nameTaken = [2]string{
		"only one actor uses the name, and its destroy had returned: the name must be free, and is not;",
		"either it was released late, after destroy returned, or early, and the old directory is in the way of the new one."}
	notThere = [2]string{
		"the cache is live, and nobody else knows it: its files must exist and work;",
		"the unlink of another cache removed them, or create returned before they existed."}
)

// outcomeNames are the names in the table and in messages.
var outcomeNames = [outcomes]string{
	done: "success", exists: "the name is taken", missing: "no such cache", busy: "objects are live", gone: "the cache is gone", noMemory: "no memory",
	detached: "the mount is detached",
}

// A counterRule says what a counter must be.
type counterRule struct {
	name  string
	must  must
	needs string    // for a proof: it may be zero if there are no actors of this kind
	why   [2]string // what it means that it is not zero
}

type must int

const (
	beZero  must = iota
	prove        // not zero: the actors met
	beThere      // any value
)

// In the order of explanation: a counter that comes first is nearer to the
// cause.
var counterRules = [counters]counterRule{
	wrongOrder: {name: "orders of locks that can deadlock"},
	early: {name: "caches released before the last unlink of them had ended", why: [2]string{
		"destroy released a cache before a tree had unlinked it completely: unlink must come before release;",
		"until the unlink ends its files exist, and a show or a store finds a cache whose memory belongs to another."}},
	outlived: {name: "shows and stores that went on after the drain of their file had ended", why: [2]string{
		"the removal of a cache's files returned while a show or a store of one of them was running:",
		"the drain did not wait for the active references, so they are not zero when the cache is released."}},
	misuse: {name: "a released cache was in use by a show, a store or a tree", why: [2]string{
		"a show, a store or a tree still used the cache when destroy released it: the control block it read was poisoned;",
		"release must wait for the unlink, and the unlink for the active references."}},
	typeLost: {name: "objects that were of another type before the section of their reader ended", why: [2]string{
		"a reader held an object of a typesafe-by-RCU cache in a section, and its memory became something else:",
		"its slab was returned before a grace period had passed."}},
	orphans: {name: "caches destroyed with a live object", why: [2]string{
		"a live object has no cache any more: destroy counted the objects wrong,",
		"or ended before the objects in other CPUs' sheaves were back in their slabs."}},
	overwritten: {name: "objects that did not hold what was written to them", why: [2]string{
		"the same memory was allocated a second time, or the slab under the object was returned;",
		"an object was on two free lists, or free and live at once."}},
	damage: {name: "objects that did not fit the slab they returned to", why: [2]string{
		"an object came back to a slab where it was free already, or to a slab that it does not belong to;",
		"it had been allocated or freed twice."}},
	panics: {name: "panics of actors", why: [2]string{
		"the library panicked where an actor did nothing wrong;",
		"the stack is above."}},
	apart: {name: "caches of one size that did not share", why: [2]string{
		"two caches of one size, both mergeable, have directories of their own;",
		"the second was created when it could not join the core of the first."}},
	twice: {name: "caches published while another cache of that name was shown", why: [2]string{
		"a tree was told to publish a second cache of a name before the first was unlinked:",
		"the name was released before the unlink had ended."}},
	noDirectory: {name: "names published without their directory", why: [2]string{
		"a name is a link to the directory of its id, and the directory was published too late or unlinked too early;",
		"publish and unlink of one core overtook each other."}},
	unpublished: {name: "caches unlinked that were not published", why: [2]string{
		"a tree was told to unlink a cache that it did not show;",
		"publish and unlink of one cache overtook each other, or the name was released early."}},
	linkLeft: {name: "directories unlinked before their links", why: [2]string{
		"a directory left a tree while a name was still a link to it;",
		"links must go first."}},
	stuckClients: {name: "clients that do not end", why: [2]string{
		"a client was told to end and did not: it waits in the kernel for an answer from the mount;",
		"a request was never answered."}},

	storesAtDrain: {name: "stores in flight when a drain began", must: prove},
	drainsWaited:  {name: "drains that waited", must: prove},
	refusedDying:  {name: "creates refused for a dying name", must: prove},
	writersWaited: {name: "hotplug writers that waited", must: prove, needs: "hotplug"},
	atLimit:       {name: "allocations refused at the memory limit", must: prove, needs: "hoard"},
	rcuParallel:   {name: "destroys of a typesafe-by-RCU cache that met another", must: prove, needs: "destroy_rcu"},
	rcuTogether:   {name: "typesafe-by-RCU caches released in one batch with others", must: prove, needs: "destroy_rcu"},
	replaced:      {name: "objects freed while a reader looked at them in a section", must: prove, needs: "lookup"},
	validated:     {name: "objects looked at in sections", must: beThere},
	notified:      {name: "notifications answered", must: beThere},
	late:          {name: "notifications late", must: beThere},
	skipped:       {name: "notifications skipped", must: beThere},
}

var lostWhy = [2]string{
	"every actor has freed its objects, and some objects are still counted as live:",
	"a free was lost, for instance in a sheaf that was closed at that moment."}

var showsWhy = [2]string{
	"no actor works any more, so the mount, the second tree and the allocator's list should show the same caches:",
	"a publish or an unlink was lost, or went to another cache of the same name."}

// explanation says what the judge concludes from an operation that ended in a
// way it may not.
func (r opRule) explanation() []string {
	if r.why != [2]string{} {
		return r.why[:]
	}
	return []string{
		"any actor may do this operation at any moment, and it has few ways to fail;",
		"this is none of them: something else went wrong before, or the real error was lost on its way."}
}
