package etcd

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
	"mxcert/acme/state/storetest"
)

var prefixes atomic.Int64

// room returns the settings of a part of a cluster that no other test uses.
func room(c *etcdtest.Cluster) Settings {
	return Settings{Endpoints: c.Endpoints(), Prefix: fmt.Sprintf("/mxcert/v1/test%d/", prefixes.Add(1)), Holder: "mx1", Lease: 2 * time.Second}
}

func open(t *testing.T, s Settings) *Store {
	t.Helper()
	opened, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return opened.(*Store)
}

func TestStore(t *testing.T) {
	cluster := etcdtest.Start(t, 1)
	storetest.Run(t, func(t *testing.T) func() state.Store {
		s := room(cluster)
		return func() state.Store { return open(t, s) }
	})
}

// long reports whether the tests may take minutes: make fleet.
func long() bool { return os.Getenv("MXCERT_FLEET") == "long" }
