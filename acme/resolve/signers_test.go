package resolve_test

import (
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/port"
)

// TestZonesThatServersSign verifies what BIND and Knot sign themselves: records, those from a wildcard, and denials by NSEC and NSEC3. The
// resolver believes their keys, as a validator does that found their DS records.
func TestZonesThatServersSign(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) string{"BIND": startNamed, "Knot": startKnot} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := start(t)
			r := resolve.New([]string{believer(t, address)}, address)
			for _, zone := range []string{"plain.test", "nsec.test", "nsec3.test"} {
				signature := resolve.Signed
				if zone == "plain.test" {
					signature = resolve.Unsigned
				}
				for _, tt := range []struct{ name, alias string }{
					{"mx.", ""}, {"any.", "www.hoster.test"}, {"a.deep.nested.", "other.hoster.test"}, {"_acme-challenge.real.", "x.acme.hoster.test"}, {"mx.renamed.", "mx.acme.hoster.test"}, {"terminal.", ""}, {"", ""},
				} {
					got, err := r.ServedTLSA(t.Context(), tt.name+zone)
					if err != nil || len(got.Answers) != 1 {
						t.Errorf("%s%s: %+v, %v", tt.name, zone, got, err)
						continue
					}
					if a := got.Answers[0]; a.Signature != signature || a.Alias != tt.alias || a.Fault != "" || len(a.Records) > 0 {
						t.Errorf("%s%s: %+v; keys %+v", tt.name, zone, a, got.Keys)
					}
				}
			}
		})
	}
}

// believer is a resolver that passes on what an authoritative server answers, as if it had validated it.
func believer(t *testing.T, authoritative string) string {
	t.Helper()
	return answering(t, func(w dns.ResponseWriter, question *dns.Msg) {
		answer, _, err := (&dns.Client{Net: "tcp", Timeout: 20 * time.Second}).ExchangeContext(t.Context(), question, authoritative)
		if err != nil {
			return
		}
		answer.AuthenticatedData = true
		if _, datagram := w.LocalAddr().(*net.UDPAddr); datagram {
			answer.Truncate(1232)
		}
		_ = w.WriteMsg(answer)
	})
}

// answering is a server on loopback that answers by a function, also over TCP: a busy machine may be too slow for datagrams.
func answering(t *testing.T, answer dns.HandlerFunc) string {
	t.Helper()
	address := port.Address(t)
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: conn, Handler: answer}, {Listener: listener, Handler: answer}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return address
}
