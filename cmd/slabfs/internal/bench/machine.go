package bench

import (
	"os"
	"runtime"
	"strings"
)

// A Machine is where the figures were measured.
type Machine struct {
	CPU    string // model name
	CPUs   int    // how many the process may use
	Kernel string
	Go     string
	OS     string
	Arch   string
}

// ThisMachine describes this machine. Unknown properties are "unknown".
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

// readFile returns a file's text, or "" if it cannot be read.
func readFile(name string) string {
	text, _ := os.ReadFile(name)
	return string(text)
}

// cpuModel finds the first model name in the text of /proc/cpuinfo.
func cpuModel(cpuinfo string) string { return cpuField(cpuinfo, "model name") }

// cpuKey names the processor by its design, because virtual machines report
// model names of their own.
func cpuKey(cpuinfo string) string {
	return cpuField(cpuinfo, "vendor_id") + " " + cpuField(cpuinfo, "cpu family") + "/" + cpuField(cpuinfo, "model")
}

// cpuField finds the first value of a key.
func cpuField(cpuinfo, field string) string {
	for line := range strings.Lines(cpuinfo) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == field {
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
