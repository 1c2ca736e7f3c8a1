package survey

import (
	"net/netip"
	"sync"
	"testing"

	"mxcert/deploy/verdict"
)

// Looks that share their turns wait for each other at an address, and only there.
func TestTurns(t *testing.T) {
	t.Parallel()
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	shared := new(Turns)
	shared.of(one) <- struct{}{}
	select {
	case shared.of(one) <- struct{}{}:
		t.Error("two connections at a time to an address")
	default:
	}
	for _, free := range []chan struct{}{shared.of(two), (*Turns)(nil).of(one)} {
		select {
		case free <- struct{}{}:
		default:
			t.Error("a look waits for nobody")
		}
	}
}

// A host whose addresses come late announces them while another one connects.
func TestAnnounceWhileOthersConnect(t *testing.T) {
	t.Parallel()
	s, address := newSurvey(Options{Connections: 1 << 30}), netip.MustParseAddr("192.0.2.1")
	s.announce(&host{addresses: []netip.Addr{address}})
	e := &endpoint{address: address, handshakes: make([]verdict.Handshake, 1)}
	var all sync.WaitGroup
	all.Go(func() {
		for range 10000 {
			s.announce(&host{addresses: []netip.Addr{address}})
		}
	})
	for range 10000 {
		if release, ok := s.enter(t.Context(), e, false); ok {
			release()
		}
	}
	all.Wait()
}
