package bench

import (
	"bytes"
	"math"
	"os"
	"runtime/metrics"
	"strconv"
	"time"
)

// rss returns the resident memory of this process in bytes, or 0 if the system
// does not tell.
func rss() float64 {
	text, _ := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.Atoi(string(fields[1]))
	return float64(pages * os.Getpagesize())
}

// A collector is a snapshot of what the garbage collector has done so far.
type collector struct {
	cpu    time.Duration
	cycles uint64
	pauses *metrics.Float64Histogram
}

func readCollector() collector {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/gc/cycles/total:gc-cycles"}, {Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(s)
	return collector{time.Duration(s[0].Value.Float64() * 1e9), s[1].Value.Uint64(), s[2].Value.Float64Histogram()}
}

// longest returns a lower bound, from the histogram, of the longest pause since
// before.
func (c collector) longest(before collector) time.Duration {
	for i := len(c.pauses.Counts) - 1; i >= 0; i-- {
		if c.pauses.Counts[i] > before.pauses.Counts[i] {
			return time.Duration(math.Max(c.pauses.Buckets[i], 0) * 1e9)
		}
	}
	return 0
}
