// A client with modules of others: kept apart, so that slabfs does not depend
// on them.
module slabfs/integration/testdata/procfs

go 1.26.0

require github.com/prometheus/procfs v0.23.0

require golang.org/x/sys v0.49.0 // indirect
