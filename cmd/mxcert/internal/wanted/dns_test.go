package wanted_test

import (
	"slices"
	"testing"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/wanted"
)

// TestResolversShareZones: the next pass does not ask for the keys of the zone again, nor the next certificate.
func TestResolversShareZones(t *testing.T) {
	l := lab.New(t, lab.Options{Signed: true})
	config, err := configs.Load(l.WriteConfig(t, lab.ConfigOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	host, err := wanted.From(config)
	if err != nil {
		t.Fatal(err)
	}
	asksKeys := func(q nameserver.Query) bool { return q.Type == dns.TypeDNSKEY || q.Type == dns.TypeNS }
	for round, shared := range []bool{false, true} {
		l.World.ResetLog()
		if _, err := host.Certificates[0].Resolver().ServedTLSA(t.Context(), "_25._tcp.mx.example.org"); err != nil {
			t.Fatal(err)
		}
		if asked := slices.ContainsFunc(l.World.Queries(), asksKeys); asked == shared {
			t.Errorf("look %d: asked %v, %+v", round+1, asked, l.World.Queries())
		}
	}
}
