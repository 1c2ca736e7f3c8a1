package transport

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestNoncesAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s nonceStore
		for i := range 2 * mostNonces {
			s.put([]string{fmt.Sprint(i)})
		}
		if len(s.kept) != mostNonces {
			t.Errorf("%d are kept", len(s.kept))
		}
		if got := fmt.Sprint(s.take(2)); got != "[63 62]" {
			t.Errorf("the newest are %s", got)
		}
		time.Sleep(nonceLife - time.Second)
		s.put([]string{"young"})
		time.Sleep(time.Second)
		if got := s.take(8); len(got) != 1 || got[0] != "young" || len(s.kept) != 0 {
			t.Errorf("got %q, left %d", got, len(s.kept))
		}
	})
}

// TestRefusedNonce: those of an earlier operation are as old, the others are not.
func TestRefusedNonce(t *testing.T) {
	t.Parallel()
	var n nonces
	n.inherited = []string{"old1", "old2", "old3"}
	n.push("own", false)
	n.push("no nonce: it has blanks", false)
	n.push("", false)
	if got := n.pop() + n.pop(); got != "old3old2" {
		t.Errorf("got %s", got)
	}
	n.push("fresh", true)
	if got := n.pop() + n.pop() + n.pop(); got != "freshown" || n.count() != 0 {
		t.Errorf("got %q, and %d more", got, n.count())
	}
	n.push("a", false)
	n.push("b", true)
	if n.count() != 2 {
		t.Errorf("%d are left, though none was of an earlier operation", n.count())
	}
}
