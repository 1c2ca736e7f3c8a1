package fleet

import (
	"slices"
	"testing"

	"mxcert/acme/fleet/seal"
)

// The host that began the fleet may leave it: the others, and those that join later, still know the store.
func TestTheFounderLeaves(t *testing.T) {
	for what, leave := range map[string]func(w *world, stays *host) func(*Settings){
		"removed": func(w *world, stays *host) func(*Settings) {
			_, err := stays.RemoveRecipient(w.t.Context(), w.all[0])
			must(w.t, err)
			return func(*Settings) {}
		},
		"taken out of the configuration": func(w *world, _ *host) func(*Settings) {
			return func(s *Settings) {
				s.Recipients = slices.DeleteFunc(slices.Clone(s.Recipients), func(r seal.Recipient) bool { return r == w.all[0] })
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, 3)
			w.host(0, "").leads1("mx.example").Release()
			stays := w.host(1, "")
			stays.leads1("mx.example").Release()
			change := leave(w, stays)
			for i, dir := range []string{1: stays.dir, 2: ""}[1:] {
				again := w.host(i+1, dir, change)
				if err := again.Join(t.Context()); err != nil {
					t.Errorf("mx%d: %v", i+1, err)
				}
				again.leads1("mx.example").Release()
			}
		})
	}
}
