package etcd

import (
	"errors"
	"fmt"
	"testing"

	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
)

// TestLargeValuesBehindSmallOnes: a page is as large as it may be, whatever strangers have put behind what was read.
func TestLargeValuesBehindSmallOnes(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	line, c := cluster.Members[0].Line(), admin(t, cluster)
	settings.Endpoints = []string{line.URL()}
	s := open(t, settings)
	for i := range firstValues {
		if err := s.Replace(fmt.Sprintf("a/1/%d", i), []byte("small")); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, c, settings.Prefix+"a/2/", 12)
	list, _, err := s.Below(t.Context(), "a")
	if err != nil || len(list) != firstValues+12 {
		t.Errorf("%d values, %v", len(list), err)
	}
	fill(t, c, settings.Prefix+"a/3/", 40)
	before := line.Carried()
	if _, revision, err := s.Below(t.Context(), "a"); !errors.Is(err, state.ErrDamaged) || revision == 0 {
		t.Errorf("at revision %d: %v", revision, err)
	}
	if carried := line.Carried() - before; carried > 36<<20 { // 16 MiB, and what etcd sends before it hears that nobody reads it
		t.Errorf("a look at 52 MiB took %d bytes", carried)
	}
}
