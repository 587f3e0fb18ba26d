package stress

// What must be. The judge compares the world's counts with this.

// An opRule says how operations of a kind may end.
type opRule struct {
	name string
	may  []outcome
	why  [2]string // what it means that one ended otherwise
}

var opRules = [ops]opRule{
	opCreate: {"create", []outcome{done, exists}, [2]string{
		"a create failed otherwise than on a name that is taken, as where the directory of the old cache is in its way:",
		"the name was given up before the unlink had ended."}},
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
		"whoever holds the objects now holds memory that is nobody's."}},
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
		"until it comes the name cannot be used again, and who opens a file reaches a cache that is gone."}},
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
		"one actor alone uses the name, and its destroy had returned: the name must be free, and is not;",
		"either it was given up late, after destroy returned, or early, and the old directory is in the way of the new."}
	notThere = [2]string{
		"the cache is live, and nobody else knows it: its files must be there and work;",
		"the unlink of another cache took them away, or create returned before they were there."}
)

// outcomeNames are those of the table and of messages.
var outcomeNames = [outcomes]string{
	done: "success", exists: "the name is taken", missing: "no such cache", busy: "objects are live", gone: "the cache is gone", noMemory: "no memory",
	detached: "the mount is detached",
}

// A counterRule says what a counter must be.
type counterRule struct {
	name  string
	must  must
	needs string    // a proof: the kind of actor without which it may be zero
	why   [2]string // not zero: what it means
}

type must int

const (
	beZero  must = iota
	prove        // not zero: the actors met
	beThere      // anything
)

// In the order in which they explain: what comes first is nearer to the cause.
var counterRules = [counters]counterRule{
	wrongOrder: {name: "orders of locks that can deadlock"},
	early: {name: "caches released before the last unlink of them had ended", why: [2]string{
		"destroy released a cache while a tree was still to unlink it, or was at it: unlink must come before release;",
		"meanwhile its files are there, and a show or a store of them finds a cache whose memory is another's."}},
	outlived: {name: "shows and stores that went on after the drain of their file had ended", why: [2]string{
		"the removal of a cache's files returned while a show or a store of one of them was running:",
		"its drain did not wait for the active references, so they are not zero when the cache is released."}},
	misuse: {name: "a released cache was in use by a show, a store or a tree", why: [2]string{
		"a show, a store or a tree still had the cache when destroy released it: the control block it looked at was poisoned;",
		"release must wait for the unlink, and the unlink for the active references."}},
	typeLost: {name: "objects that were of another type before the section of their reader ended", why: [2]string{
		"a reader held an object of a typesafe-by-RCU cache in a section, and its memory became something else:",
		"its slab was given back before a grace period had passed."}},
	orphans: {name: "caches destroyed with a live object", why: [2]string{
		"a live object has no cache any more: destroy counted the objects wrong,",
		"or ended before what other CPUs' sheaves held was back in its slab."}},
	overwritten: {name: "objects that did not hold what was written to them", why: [2]string{
		"somebody else was given the same memory, or the slab under the object was given back;",
		"an object was on two free lists, or free and live at once."}},
	damage: {name: "objects that did not fit the slab to which they were to return", why: [2]string{
		"an object came back to a slab in which it was free already, or to one that it is no object of;",
		"it had been handed out or freed twice."}},
	panics: {name: "panics of actors", why: [2]string{
		"the library panicked where an actor did nothing wrong;",
		"the stack is above."}},
	apart: {name: "caches of one size that did not share", why: [2]string{
		"two caches of one size, both mergeable, have directories of their own;",
		"the second was made while the core of the first could not be joined."}},
	twice: {name: "caches published while another of the name was shown", why: [2]string{
		"a tree was told of a second cache of a name before the first was unlinked:",
		"the name was given up before the unlink had ended."}},
	noDirectory: {name: "names published without their directory", why: [2]string{
		"a name is a link to the directory of its id, which was not published before it, or unlinked too early;",
		"publish and unlink of one core have overtaken each other."}},
	unpublished: {name: "caches unlinked that were not published", why: [2]string{
		"a tree was told to unlink a cache that it did not show;",
		"publish and unlink of one cache have overtaken each other, or the name was given up early."}},
	linkLeft: {name: "directories unlinked before their links", why: [2]string{
		"a directory left a tree while a name was still a link to it;",
		"links must go first."}},
	stuckClients: {name: "clients that do not end", why: [2]string{
		"a client was told to end and did not: it waits in the kernel for an answer of the mount;",
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
	"every actor has freed what it had allocated, and objects are still counted as live:",
	"a free was lost, for instance in a sheaf that was closed at that moment."}

var showsWhy = [2]string{
	"nobody works any more, and the mount, the second tree and the allocator's list should show the same caches:",
	"a publish or an unlink was lost, or came for a cache of the same name."}

// why tells what the judge concludes from an operation that ended as it may not.
func (r opRule) explanation() []string {
	if r.why != [2]string{} {
		return r.why[:]
	}
	return []string{
		"the operation is one that everybody may do at any moment, and it has few ways to fail;",
		"this is none of them: something else has gone wrong before, or the error is lost on its way."}
}
