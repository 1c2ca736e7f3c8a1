package resolve_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// TestCancel: SIGTERM must not wait for a name server, at no step, and is not a fault of the DNS.
func TestCancel(t *testing.T) {
	t.Parallel()
	dead := resolve.New([]string{silent(t), silent(t)})
	noUDP := listen(t, world(t, nil), "127.0.0.1:0")
	noUDP.SetFaults(nameserver.Faults{Truncate: true, Edit: func(_, reply *dns.Msg) *dns.Msg {
		if reply.Truncated {
			return reply
		}
		return nil
	}})
	lagging, deaf := newFleet(t, 2), newFleet(t, 2)
	deaf.servers[1].SetFaults(nameserver.Faults{Dead: true})
	for what, call := range map[string]func(context.Context) error{
		"Reach":      dead.Reach,
		"Locate":     func(ctx context.Context) error { _, err := dead.Locate(ctx, "mx.example.org"); return err },
		"Addresses":  func(ctx context.Context) error { _, err := dead.Addresses(ctx, "mx.example.org"); return err },
		"Delegation": func(ctx context.Context) error { _, err := dead.Delegation(ctx, "example.org"); return err },
		"over TCP":   func(ctx context.Context) error { _, err := ask(noUDP).Locate(ctx, "mx.example.org"); return err },
		"finding the servers": func(ctx context.Context) error {
			return dead.AwaitTXT(ctx, wanted("one"), resolve.All, time.Minute, nil)
		},
		"asking a dead server": func(ctx context.Context) error {
			return deaf.AwaitTXT(ctx, wanted("one"), resolve.All, time.Minute, nil)
		},
		"between two looks": func(ctx context.Context) error {
			return lagging.AwaitTXT(ctx, wanted("never"), resolve.All, time.Minute, nil)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stopped := make(chan time.Time, 1)
			time.AfterFunc(150*time.Millisecond, func() { stopped <- time.Now(); cancel() })
			err := call(ctx)
			// A datagram without an answer is waited for longer.
			if took := time.Since(<-stopped); took > 1500*time.Millisecond {
				t.Errorf("it took %s", took)
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
}
