package bench

import (
	"os"
	"runtime"
	"strings"
)

// A Machine is where figures come from.
type Machine struct {
	CPU    string // model name
	CPUs   int    // that the process may use
	Kernel string
	Go     string
	OS     string
	Arch   string
}

// ThisMachine describes the machine at hand, with "unknown" for what it does not tell.
func ThisMachine() Machine {
	return Machine{
		CPU:    orUnknown(cpuModel(readFile("/proc/cpuinfo"))),
		CPUs:   runtime.NumCPU(),
		Kernel: orUnknown(strings.TrimSpace(readFile("/proc/sys/kernel/osrelease"))),
		Go:     runtime.Version(),
		OS:     runtime.GOOS,
		Arch:   runtime.GOARCH,
	}
}

// readFile returns a file's text, or nothing.
func readFile(name string) string {
	text, _ := os.ReadFile(name)
	return string(text)
}

// cpuModel finds the first model name in the text of /proc/cpuinfo.
func cpuModel(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
