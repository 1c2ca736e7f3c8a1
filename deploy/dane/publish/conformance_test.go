package publish_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"mxcert/deploy/dane"
	"mxcert/deploy/dane/publish"
	"mxcert/deploy/dane/publish/publishtest"
)

func open(t *testing.T, s publish.Settings) dane.Publisher {
	t.Helper()
	p, err := publish.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// environ are the variables for a server that takes dynamic updates.
func environ(address, secret string) map[string]string {
	return map[string]string{"DNSUPDATE_NAMESERVER": address, "DNSUPDATE_TSIG_KEY": keyName, "DNSUPDATE_TSIG_SECRET": secret}
}

// byUpdates is the service of a server that takes dynamic updates.
func byUpdates(address string) publishtest.Service {
	other := base64.StdEncoding.EncodeToString([]byte("wrong-secret, thirty-two bytes ."))
	via := func(t *testing.T, server string) dane.Publisher {
		if server == "" {
			server = address
		}
		return open(t, publish.Settings{RFC2136: environ(server, secret)})
	}
	return publishtest.Service{
		Address: address, Via: via, Put: putByUpdate(address), Held: heldInDNS(address), Secrets: []string{other},
		Wrong: func(t *testing.T) dane.Publisher {
			return open(t, publish.Settings{RFC2136: environ(address, other)})
		},
	}
}

func TestBIND(t *testing.T) {
	t.Parallel()
	run(t, byUpdates(startNamed(t, "update-policy { grant mxcert. subdomain example.test. ANY; };")))
}

func TestKnot(t *testing.T) {
	t.Parallel()
	run(t, byUpdates(startKnot(t)))
}

func TestPowerDNS(t *testing.T) {
	t.Parallel()
	t.Run("updates", func(t *testing.T) {
		t.Parallel()
		address, _ := startPowerDNS(t)
		s := byUpdates(address)
		s.Serial = true // SQLite
		run(t, s)
	})
	t.Run("API", func(t *testing.T) {
		t.Parallel()
		address, api := startPowerDNS(t)
		via := func(t *testing.T, server string) dane.Publisher {
			if server == "" {
				server = api
			}
			return open(t, publish.Settings{PowerDNS: &publish.API{URL: "http://" + server, Secret: apiKey}})
		}
		run(t, publishtest.Service{
			Address: api, Via: via, Put: putByUpdate(address), Held: heldInDNS(address), Replaces: true, Serial: true,
			Wrong: func(t *testing.T) dane.Publisher {
				return open(t, publish.Settings{PowerDNS: &publish.API{URL: "http://" + api, Secret: "wrong-secret"}})
			},
		})
	})
}

func TestDeSEC(t *testing.T) {
	t.Parallel()
	server := publishtest.StartDeSEC(t, "example.test", apiKey)
	via := func(secret string) func(*testing.T, string) dane.Publisher {
		return func(t *testing.T, address string) dane.Publisher {
			if address == "" {
				address = server.Address()
			}
			return open(t, publish.Settings{DeSEC: &publish.API{URL: "http://" + address + "/api/v1", Secret: secret}})
		}
	}
	run(t, publishtest.Service{
		Address: server.Address(), Via: via(apiKey), Put: server.Put, Held: server.Held, Replaces: true, LeastTTL: time.Hour,
		Wrong: func(t *testing.T) dane.Publisher { return via("wrong-secret")(t, "") },
	})
}

func TestCloudflare(t *testing.T) {
	t.Parallel()
	server := publishtest.StartCloudflare(t, "example.test", apiKey)
	via := func(secret string) func(*testing.T, string) dane.Publisher {
		return func(t *testing.T, address string) dane.Publisher {
			if address == "" {
				address = server.Address()
			}
			return open(t, publish.Settings{Cloudflare: &publish.API{URL: "http://" + address + "/client/v4", Secret: secret}})
		}
	}
	run(t, publishtest.Service{
		Address: server.Address(), Via: via(apiKey), Put: server.Put, Held: server.Held, LeastTTL: time.Minute,
		Wrong: func(t *testing.T) dane.Publisher { return via("wrong-secret")(t, "") },
	})
}

// TestWildcards: what a server makes from a wildcard is not at the name, and nothing is written at the wildcard.
func TestWildcards(t *testing.T) {
	t.Parallel()
	bind, knot := startNamed(t, "update-policy { grant mxcert. subdomain example.test. ANY; };"), startKnot(t)
	pdns, api := startPowerDNS(t)
	for name, tt := range map[string]struct {
		address  string
		settings publish.Settings
	}{
		"BIND": {bind, publish.Settings{RFC2136: environ(bind, secret)}}, "Knot": {knot, publish.Settings{RFC2136: environ(knot, secret)}},
		"PowerDNS": {pdns, publish.Settings{RFC2136: environ(pdns, secret)}}, "PowerDNS API": {pdns, publish.Settings{PowerDNS: &publish.API{URL: "http://" + api, Secret: apiKey}}},
	} {
		p, at := open(t, tt.settings), mailHost("wild")
		wild := heldInDNS(tt.address)(t, at.Name)
		if len(wild) != 1 {
			t.Fatalf("%s: no record of the wildcard: %q", name, wild)
		}
		if records, _, err := p.List(t.Context(), at); err != nil || len(records) != 0 {
			t.Errorf("%s: %v, %v", name, records, err)
		}
		if err := p.Add(t.Context(), at, one(1), time.Hour); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := heldInDNS(tt.address)(t, at.Name); len(got) != 1 || got[0] == wild[0] {
			t.Errorf("%s: added: %q", name, got)
		}
		if err := p.Remove(t.Context(), at, one(1)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := heldInDNS(tt.address)(t, at.Name); len(got) != 1 || got[0] != wild[0] {
			t.Errorf("%s: removed: %q", name, got)
		}
	}
}

// TestPrimary: without a configured server the primary of the zone gets the updates, on port 53.
func TestPrimary(t *testing.T) {
	t.Parallel()
	var asked []string
	s := publish.Settings{RFC2136: map[string]string{"DNSUPDATE_TSIG_KEY": keyName, "DNSUPDATE_TSIG_SECRET": secret}}
	s.Addresses = func(_ context.Context, host string) ([]string, error) {
		asked = append(asked, host)
		return []string{"127.0.0.255"}, nil
	}
	_, _, err := open(t, s).List(t.Context(), mailHost("mx"))
	if err == nil || !strings.Contains(err.Error(), "127.0.0.255:53") || len(asked) != 1 || asked[0] != "ns1."+zone {
		t.Errorf("%v, asked %q", err, asked)
	}
	for what, addresses := range map[string]func(context.Context, string) ([]string, error){
		"not known": nil, "no address": func(context.Context, string) ([]string, error) { return nil, nil }, "error": func(context.Context, string) ([]string, error) { return nil, errors.New("it failed") },
	} {
		s.Addresses = addresses
		_, _, err := open(t, s).List(t.Context(), mailHost("mx"))
		if e, ok := errors.AsType[*publish.Error](err); !ok || e.Hint() == "" || e.Temporary() != (addresses != nil) || !strings.Contains(e.Error(), "primary server") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
