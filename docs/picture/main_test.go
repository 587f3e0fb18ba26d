package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"testing"
)

// The committed picture is what go generate draws, and is well-formed.
func TestPicture(t *testing.T) {
	got, err := os.ReadFile("../deadlock.svg")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, draw(deadlock)) {
		t.Error("docs/deadlock.svg is not what docs/picture draws; run go generate ./docs/picture")
	}
	for d := xml.NewDecoder(bytes.NewReader(got)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// In a deadlock each party waits for one that waits.
func TestDeadlock(t *testing.T) {
	waits := map[int]int{}
	for _, s := range deadlock.steps {
		if s.waits {
			waits[s.party] = s.waitsFor
		}
	}
	p := store
	for range deadlock.parties {
		next, ok := waits[p]
		if !ok {
			t.Fatalf("%s waits for nobody", deadlock.parties[p].name)
		}
		p = next
	}
	if p != store || len(waits) != len(deadlock.parties) {
		t.Errorf("%v is no circle of all parties", waits)
	}
}
