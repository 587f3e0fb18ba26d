package fault

import (
	"slices"
	"strings"
	"testing"
)

func TestInject(t *testing.T) {
	defer Reset()
	for _, name := range Names() {
		if err := Inject(name); err != nil || Injected() != name {
			t.Errorf("Inject(%q) = %v, injected: %q", name, err, Injected())
		}
		lines := strings.Split(Explain(name), "\n")
		if len(lines) != 3 || lines[0] == "" || lines[1] == "" || lines[2] != "" {
			t.Errorf("Explain(%q) = %q; want two lines", name, lines)
		}
	}
	last := Injected()
	for _, name := range []string{"", "no-such", "NO-DRAIN"} {
		err := Inject(name)
		if err == nil || !strings.Contains(err.Error(), strings.Join(Names(), " ")) {
			t.Errorf("Inject(%q) = %v; want an error that lists the names", name, err)
		}
		if Injected() != last || Explain(name) != "" {
			t.Errorf("after Inject(%q): %q is injected, which is explained by %q", name, Injected(), Explain(name))
		}
	}
	if n := Names(); len(slices.Compact(slices.Sorted(slices.Values(n)))) != len(n) {
		t.Errorf("Names() = %q: one comes twice", n)
	}
	if Reset(); Injected() != "" {
		t.Errorf("after Reset %q is injected", Injected())
	}
}
