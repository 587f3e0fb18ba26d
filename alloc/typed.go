package alloc

import (
	"fmt"
	"reflect"
	"strings"
	"unsafe"
)

// A Typed is a cache of values of one type. It may be used from any goroutine.
//
// Values do not lie on the Go heap. With a pointer to a value,
// runtime.SetFinalizer and weak.Make abort the program, and runtime.AddCleanup
// panics.
type Typed[T any] struct {
	// A Typed is a Cache under a type that knows T. A pointer to a Cache
	// would cost two more loads for a pair of Alloc and Free.

	_     [0]*T // a Typed of one type does not convert to another's
	cache Cache
}

// NewTyped returns a cache for values of type T. T must hold no Go pointers:
// the garbage collector never looks at values, so it would free what they point
// to. A Ref is allowed. If o.Align is 0, values are aligned as T is.
//
// Alloc and AllocRef clear values, and so the work of o.Ctor, which runs only
// once for each object. Local.Alloc and the methods of the Cache below do not
// clear values.
//
// Errors: the errors of NewCache; ErrInvalid with the path of each field that
// holds Go pointers; ErrInvalid for TypesafeByRCU, because Alloc would clear
// what a reader may look at.
func NewTyped[T any](a *Allocator, name string, o CacheOptions) (*Typed[T], error) {
	t := reflect.TypeFor[T]()
	if bad := pointerPaths(nil, t, t.String()); len(bad) > 0 {
		return nil, fmt.Errorf("create cache %q: %s holds Go pointers, which the collector would not see: %s; use a Ref or an index: %w",
			name, t, strings.Join(bad, ", "), ErrInvalid)
	}
	if o.Flags&TypesafeByRCU != 0 {
		return nil, fmt.Errorf("create cache %q: a Typed clears values, which readers of a typesafe-by-RCU cache may look at; use NewCache: %w", name, ErrInvalid)
	}
	c, err := a.NewCache(name, int(t.Size()), o)
	if err != nil {
		return nil, err
	}
	return (*Typed[T])(unsafe.Pointer(c)), nil
}

// pointerPaths appends the paths below path at which values of type t hold Go
// pointers.
func pointerPaths(bad []string, t reflect.Type, path string) []string {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			bad = pointerPaths(bad, f.Type, path+"."+f.Name)
		}
		return bad
	case reflect.Array:
		if t.Len() == 0 {
			return bad
		}
		return pointerPaths(bad, t.Elem(), path+"[]")
	case reflect.Pointer, reflect.UnsafePointer, reflect.String, reflect.Slice, reflect.Map,
		reflect.Chan, reflect.Func, reflect.Interface:
		return append(bad, fmt.Sprintf("%s (%s)", path, t))
	default:
		return bad
	}
}

// Cache returns the cache below, for its statistics, settings, bulk calls and
// Destroy.
func (t *Typed[T]) Cache() *Cache { return &t.cache }

// Alloc returns a zeroed value, or nil at the allocator's memory limit. It
// takes as long as Cache.Alloc and the clearing of the value.
func (t *Typed[T]) Alloc() *T {
	p := (*T)(allocFast(&t.cache))
	if p != nil {
		clear((*[1]T)(unsafe.Pointer(p))[:]) // a variable of more than 128 KiB would lie on the Go heap
	}
	return p
}

// Free frees a value; see Cache.Free. It panics if p is nil.
func (t *Typed[T]) Free(p *T) { freeFast(&t.cache, unsafe.Pointer(p)) }

// AllocRef is Alloc for a value that is held as a Ref. At the memory limit it
// returns the nil Ref.
func (t *Typed[T]) AllocRef() Ref[T] { return RefOf(t.Alloc()) }

// FreeRef is Free for a value that is held as a Ref. It panics if r is nil.
func (t *Typed[T]) FreeRef(r Ref[T]) { freeFast(&t.cache, unsafe.Pointer(r.Get())) }

// A Ref refers to a value of a Typed without being a Go pointer. It takes 8
// bytes, its zero value is nil, and it is comparable. It may lie in objects, in
// slices and in map keys, and the collector never looks at it. Ten million Refs
// cost a collection nothing. Ten million pointers cost it some 60 ms.
//
// A Ref is valid as long as its value, and nothing checks that.
//
// The high 16 bits are 0 and reserved.
type Ref[T any] struct {
	_    [0]*T // a Ref of one type does not convert to another's
	word uint64
}

// RefOf returns the Ref of a value of a Typed, or the nil Ref if p is nil.
func RefOf[T any](p *T) Ref[T] { return Ref[T]{word: uint64(uintptr(unsafe.Pointer(p)))} }

// Get returns a pointer to the value, or nil for the nil Ref.
func (r Ref[T]) Get() *T {
	word := uintptr(r.word)
	return *(**T)(unsafe.Pointer(&word)) // not a conversion, which checkptr would refuse in race builds
}

// IsNil reports whether r refers to nothing.
func (r Ref[T]) IsNil() bool { return r.word == 0 }
