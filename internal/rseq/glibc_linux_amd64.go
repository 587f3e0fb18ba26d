package rseq

import (
	"errors"
	"iter"
	"unsafe"
)

// These are the parts that we read of the dynamic linker, as the kernel mapped
// it for this process. Package debug/elf cannot help: it reads files, and the
// linker's file may be gone.
type (
	elfHeader struct {
		magic [16]byte
		_     [16]byte
		phoff uint64
		_     [14]byte
		phentsize,
		phnum uint16
	}
	progHeader struct {
		typ, _               uint32
		_, vaddr, _, _, size uint64
	}
	dynEntry struct{ tag, value uint64 }
	debug    struct {
		_, _, _, _ uint64
		linker     uint64 // r_ldbase
	}
	symbol struct {
		name        uint32
		info, other uint8
		shndx       uint16
		value, size uint64
	}
)

const (
	ptDynamic = 2
	ptPhdr    = 6
	dtHash    = 4
	dtStrtab  = 5
	dtSymtab  = 6
	dtDebug   = 21
	dtGNUHash = 0x6ffffef5
)

var (
	errNoLinker = errors.New("the program is static")
	errNoSymbol = errors.New("its dynamic linker has no __rseq_offset (musl, glibc < 2.35)")
	errDisabled = errors.New("glibc did not register (tunable glibc.pthread.rseq=0?)")
)

// glibcOffset returns the offset of glibc's area from the thread pointer.
func glibcOffset() (uint64, error) {
	base := auxv(atBase)
	if base == 0 {
		base = linkerOf(auxv(atPhdr), auxv(atPhent), auxv(atPhnum))
	}
	if base == 0 {
		return 0, errNoLinker
	}
	offset := lookup(base, "__rseq_offset")
	size := lookup(base, "__rseq_size")
	if offset == nil || size == nil {
		return 0, errNoSymbol
	}
	if *(*uint32)(size) == 0 {
		return 0, errDisabled
	}
	return *(*uint64)(offset), nil
}

// at returns an address as a pointer. The address must be in memory that the
// kernel mapped, not Go.
func at(addr uintptr) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(nil), addr) }

// linkerOf returns the base of the dynamic linker of the program with these
// program headers, or 0 if the program has none. It is for programs started as
// "ld.so PROGRAM": the kernel ran the linker itself and reports no linker.
func linkerOf(phdr, size, n uintptr) uintptr {
	var base uintptr // of the program
	for ph := range headers(phdr, size, n) {
		if ph.typ == ptPhdr {
			base = phdr - uintptr(ph.vaddr)
		}
	}
	for e := range dynamic(base, headers(phdr, size, n)) {
		if e.tag == dtDebug && e.value != 0 { // the linker wrote it for debuggers
			return uintptr((*debug)(at(uintptr(e.value))).linker)
		}
	}
	return 0
}

// headers yields n program headers in memory.
func headers(phdr, size, n uintptr) iter.Seq[*progHeader] {
	return func(yield func(*progHeader) bool) {
		for i := range n {
			if !yield((*progHeader)(at(phdr + i*size))) {
				return
			}
		}
	}
}

// dynamic yields the entries of the dynamic section of the image at base, which
// the program headers lead to.
func dynamic(base uintptr, headers iter.Seq[*progHeader]) iter.Seq[*dynEntry] {
	return func(yield func(*dynEntry) bool) {
		for ph := range headers {
			if ph.typ != ptDynamic {
				continue
			}
			for e := (*dynEntry)(at(base + uintptr(ph.vaddr))); e.tag != 0; e = (*dynEntry)(unsafe.Add(unsafe.Pointer(e), unsafe.Sizeof(*e))) {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// lookup returns the address of a symbol of the image at base, or nil.
func lookup(base uintptr, name string) unsafe.Pointer {
	h := (*elfHeader)(at(base))
	if string(h.magic[:4]) != "\x7fELF" {
		return nil
	}
	var symtab, strtab, hash, gnuHash uintptr
	for e := range dynamic(base, headers(base+uintptr(h.phoff), uintptr(h.phentsize), uintptr(h.phnum))) {
		addr := uintptr(e.value)
		if addr < base { // not relocated in memory
			addr += base
		}
		switch e.tag {
		case dtHash:
			hash = addr
		case dtStrtab:
			strtab = addr
		case dtSymtab:
			symtab = addr
		case dtGNUHash:
			gnuHash = addr
		}
	}
	if symtab == 0 || strtab == 0 {
		return nil
	}
	for i := range symbols(hash, gnuHash) {
		s := (*symbol)(at(symtab + i*unsafe.Sizeof(symbol{})))
		if s.shndx != 0 && cString(at(strtab+uintptr(s.name)), len(name)) == name {
			return at(base + uintptr(s.value))
		}
	}
	return nil
}

// symbols returns how many symbols a hash table covers.
func symbols(hash, gnuHash uintptr) uintptr {
	if hash != 0 {
		return uintptr(*(*uint32)(at(hash + 4)))
	}
	if gnuHash == 0 {
		return 0
	}
	word := func(i uintptr) uint32 { return *(*uint32)(at(gnuHash + i*4)) }
	buckets, first, bloom := uintptr(word(0)), uintptr(word(1)), uintptr(word(2))
	begin := 4 + bloom*2 // bloom words have 8 bytes
	last := uintptr(0)
	for b := range buckets {
		last = max(last, uintptr(word(begin+b)))
	}
	if last < first {
		return first
	}
	for word(begin+buckets+last-first)&1 == 0 { // the end of the last chain
		last++
	}
	return last + 1
}

// cString returns the string at p if it has n bytes, or else a string of
// another length.
func cString(p unsafe.Pointer, n int) string {
	b := unsafe.Slice((*byte)(p), n+1)
	for i := range n {
		if b[i] == 0 {
			return ""
		}
	}
	if b[n] != 0 {
		return ""
	}
	return string(b[:n])
}
