package stress

// What the world counts. rules.go, in the judge, says what the counts must be.

// An op is a kind of operation: a line of the table.
type op int

const (
	opCreate op = iota
	opCreateOwn
	opDestroy
	opDestroyOwn
	opShellCreate
	opShellDestroy
	opShellDestroyOwn
	opRefuse
	opOpen
	opOpenOwn
	opStore
	opStoreOwn
	opStoreGone
	opClose
	opRead
	opSlabinfo
	opList
	opListCache
	opListGone
	opAllocate
	opHoard
	opAttach
	opDetach
	opOnline
	opHotplug
	opOffline
	opOnlineAgain
	opShellOffline
	opShellOnline
	opSection
	opReplace
	opEnd
	ops
)

// An outcome is how an operation ended.
type outcome int

const (
	done outcome = iota
	exists
	missing
	busy
	gone
	noMemory
	detached
	otherwise // none of these
	outcomes
)

// A counter counts events that are not operations.
type counter int

const (
	early counter = iota
	outlived
	misuse
	typeLost
	orphans
	overwritten
	damage
	panics
	apart
	twice
	noDirectory
	unpublished
	linkLeft
	stuckClients
	wrongOrder

	storesAtDrain
	drainsWaited
	refusedDying
	writersWaited
	atLimit
	rcuParallel
	rcuTogether
	replaced

	validated
	notified
	late
	skipped
	counters
)
