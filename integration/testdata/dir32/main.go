// Command dir32 lists a directory as 32-bit programs do: by getdents(2), which
// has offsets of 32 bits, and lseek(2) to each of them, which takes no more
// than 31. It prints the names. It is built for 386, whatever the machine.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"syscall"
	"unsafe"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string) error {
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	names, offsets, err := list(fd, 128) // in many pieces
	if err != nil {
		return err
	}
	for i, offset := range offsets {
		if int32(offset) < 0 {
			return fmt.Errorf("the offset behind %s is %#x, which has more than 31 bits", names[i], offset)
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_LSEEK, uintptr(fd), uintptr(offset), 0); errno != 0 {
			return fmt.Errorf("seek to %d: %w", offset, errno)
		}
		rest, _, err := list(fd, 4096)
		if err != nil {
			return err
		}
		if !slices.Equal(rest, names[i+1:]) {
			return fmt.Errorf("behind %s: %q; want %q", names[i], rest, names[i+1:])
		}
	}
	for _, name := range names {
		fmt.Println(name)
	}
	return nil
}

// list lists from the descriptor's position on.
func list(fd, size int) (names []string, offsets []uint32, err error) {
	buf := make([]byte, size)
	for {
		n, _, errno := syscall.Syscall(syscall.SYS_GETDENTS, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		if errno != 0 {
			return nil, nil, fmt.Errorf("getdents: %w", errno)
		}
		if n == 0 {
			return names, offsets, nil
		}
		for b := buf[:n]; len(b) > 0; b = b[binary.LittleEndian.Uint16(b[8:]):] {
			name, _, _ := bytes.Cut(b[10:], []byte{0})
			names = append(names, string(name))
			offsets = append(offsets, binary.LittleEndian.Uint32(b[4:]))
		}
	}
}
