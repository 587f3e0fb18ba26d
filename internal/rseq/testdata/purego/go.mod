// Test programs with modules of others: kept apart, so that slabfs does not
// depend on them.
module slabfs/internal/rseq/testdata/purego

go 1.25.0

require (
	github.com/ebitengine/purego v0.11.1
	slabfs v0.0.0
)

require golang.org/x/sys v0.46.0 // indirect

replace slabfs => ../../../..
