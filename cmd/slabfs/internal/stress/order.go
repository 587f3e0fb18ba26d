package stress

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	chain    = regexp.MustCompile(`(?m)^Chain exists of:\n +(.*)$`)
	title    = regexp.MustCompile(`(?m)^WARNING: (.*)$`)
	acquired = regexp.MustCompile(`(?m)is trying to acquire lock:\n.*?\((.*?)\)\{.*at: (\S+)`)
	held     = regexp.MustCompile(`(?m)already holding lock:\n.*?\((.*?)\)\{.*at: (\S+)`)
)

// explainOrder names the locks that form a circle in a report of lockdep.
func explainOrder(report string) []string {
	one := func(r *regexp.Regexp, n int) string {
		if m := r.FindStringSubmatch(report); m != nil {
			return m[n]
		}
		return "?"
	}
	wanted, have := one(acquired, 1), one(held, 1)
	path := one(chain, 1)
	if path == "?" {
		path = have + " --> " + wanted
	}
	first, _, _ := strings.Cut(path, " --> ")
	what := fmt.Sprintf("lock order: %s --> %s is a circle, which deadlocks when the holder of each lock waits for the next;", path, first)
	if !strings.Contains(one(title, 1), "circular") {
		what = fmt.Sprintf("lock order: %s: %s, with %s held;", one(title, 1), wanted, have)
	}
	return []string{what, fmt.Sprintf("%s was wanted in %s, with %s held since %s; the report shows where the others were.",
		wanted, one(acquired, 2), have, one(held, 2))}
}
