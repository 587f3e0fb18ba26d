package lockdep

import (
	"bytes"
	"runtime"
	"strconv"
)

// traced returns the goroutine's number in the first line of its stack trace,
// "goroutine 12 [running]:". This is the number that people know.
func traced() uintptr {
	var buf [64]byte
	line := buf[:runtime.Stack(buf[:], false)]
	id, _, _ := bytes.Cut(bytes.TrimPrefix(line, []byte("goroutine ")), []byte(" "))
	n, err := strconv.ParseUint(string(id), 10, 64)
	if err != nil {
		panic("lockdep: no goroutine number in " + string(line))
	}
	return uintptr(n)
}
