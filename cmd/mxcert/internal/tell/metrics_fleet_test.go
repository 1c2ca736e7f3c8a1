package tell

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"filippo.io/age"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/metrics"
)

// A host matches if it was seen to serve the newest certificate of each type of key that it wants.
func TestHostNumbers(t *testing.T) {
	t.Parallel()
	says := func(host string, certain bool, keys []bundle.KeyType, has map[string]fleet.Deployment) fleet.Deployed {
		return fleet.Deployed{Host: host, Certain: certain, Wish: fleet.Wish{Keys: keys}, Keys: has}
	}
	ec, both := []bundle.KeyType{bundle.EC256}, []bundle.KeyType{bundle.EC256, "rsa2048"}
	newest := fleet.Deployment{Serial: "b", Generation: 2, Served: "b"}
	got := hostNumbers("mx", []fleet.Deployed{
		says("serves", true, ec, map[string]fleet.Deployment{"ec256": newest}),
		says("behind", true, ec, map[string]fleet.Deployment{"ec256": {Serial: "a", Generation: 1, Served: "a"}}),
		says("has-it", true, ec, map[string]fleet.Deployment{"ec256": {Serial: "b", Generation: 2, Served: "a"}}),
		says("no-endpoint", true, ec, map[string]fleet.Deployment{"ec256": {Serial: "b", Generation: 2}}),
		says("silent", false, ec, map[string]fleet.Deployment{"ec256": {Serial: "b", Generation: 2}}),
		says("one-of-two", true, both, map[string]fleet.Deployment{"ec256": newest}),
		says("wants-nothing", true, nil, nil),
	})
	want := []metrics.FleetHost{{Certificate: "mx", Host: "behind"}, {Certificate: "mx", Host: "has-it"}, {Certificate: "mx", Host: "no-endpoint", Matches: true}, {Certificate: "mx", Host: "one-of-two"},
		{Certificate: "mx", Host: "serves", Matches: true}, {Certificate: "mx", Host: "silent"}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

// hanging is a store of which a question would never end.
type hanging struct {
	state.Shared
	asked chan time.Time // with which deadline
}

func (h hanging) Identity(ctx context.Context) (string, error) {
	until, _ := ctx.Deadline()
	h.asked <- until
	return "", state.ErrAway
}

// If somebody asks without a daemon at work, the question to the store has an end.
func TestFleetNumbersEnd(t *testing.T) {
	t.Parallel()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity, err := seal.ParseIdentity(key.String())
	if err != nil {
		t.Fatal(err)
	}
	files, err := disk.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	store := hanging{asked: make(chan time.Time, 10)}
	member, err := fleet.New(fleet.Settings{Name: "berlin", Host: "mx1", Identity: identity}, store, files, nil)
	if err != nil {
		t.Fatal(err)
	}
	fleetNumbers(World{Host: &wanted.Host{Certificates: []wanted.Certificate{{Name: "mx"}}}, Fleet: &Fleet{Health: fleet.Health{Up: true}, Member: member}})
	if until := <-store.asked; until.IsZero() {
		t.Error("the question has no deadline")
	}
}

// Without a fleet, and before anything is known of it, there are no numbers; with a store that is away, there is one.
func TestFleetNumbers(t *testing.T) {
	t.Parallel()
	host := &wanted.Host{Certificates: []wanted.Certificate{{Name: "mx"}}}
	if n := fleetNumbers(World{Host: host}); n != nil {
		t.Errorf("%+v", n)
	}
	if n := fleetNumbers(World{Host: host, Fleet: &Fleet{}}); n != nil {
		t.Errorf("nothing is known: %+v", n)
	}
	if n := fleetNumbers(World{Host: host, Fleet: &Fleet{Health: fleet.Health{Up: true}}}); n == nil || !n.Up {
		t.Errorf("%+v", n)
	}
}
