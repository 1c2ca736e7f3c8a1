package dane_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/deploy/dane"
)

// world is a signed zone example.org on some servers, with others beside it, and a validating resolver.
type world struct {
	testing.TB
	*nameserver.World
	servers  []*nameserver.Server
	resolver *nameserver.Server
}

// newWorld starts servers of example.org and of the other zones, at 127.0.0.11 and on. The lines are those of zone files with full names.
func newWorld(t testing.TB, servers int, zones ...string) *world {
	t.Helper()
	w := &world{TB: t, World: nameserver.New()}
	zones = append([]string{".", "example.org"}, zones...)
	for _, zone := range zones {
		var lines []string
		for i := range servers {
			lines = append(lines, fmt.Sprintf("@ NS ns%d.example.org.", i+1))
		}
		if zone == "example.org" {
			for i := range servers {
				lines = append(lines, fmt.Sprintf("ns%d A 127.0.0.%d", i+1, i+11))
			}
		}
		w.check(w.AddZone(zone, lines...))
		w.check(w.Sign(zone, nameserver.Signing{}))
	}
	for i := range servers {
		w.servers = append(w.servers, w.listen(fmt.Sprintf("127.0.0.%d:0", i+11), zones[1:]...))
	}
	w.resolver = w.listen("127.0.0.1:0")
	return w
}

func (w *world) listen(address string, zones ...string) *nameserver.Server {
	w.Helper()
	s, err := w.Listen(address, zones...)
	w.check(err)
	w.Cleanup(func() { _ = s.Close() })
	return s
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// ask makes a resolver that has seen nothing yet.
func (w *world) ask() *resolve.Resolver {
	var extra []string
	for _, s := range w.servers {
		extra = append(extra, s.Address())
	}
	return resolve.New([]string{w.resolver.Address()}, extra...)
}

var owner = dane.Owner{Host: "mx.example.org", Port: 25}

const ownName = "_25._tcp.mx.example.org."

func (w *world) look(s dane.Settings) dane.View {
	return dane.Look(w.Context(), w.ask(), owner, s, state.Instant{At: time.Now()})
}

// sets writes sets as "TTL record+record", sorted by the records.
func sets(v dane.View) string {
	var words []string
	for _, s := range v.Sets() {
		words = append(words, strings.TrimSpace(s.TTL.String()+" "+strings.Join(s.Records, "+")))
	}
	return strings.Join(words, ", ")
}

// steps writes the names on the way, without the final dot.
func steps(v dane.View) string {
	var names []string
	for _, s := range v.Steps {
		names = append(names, strings.TrimSuffix(s.Name, "."))
	}
	return strings.Join(names, " > ")
}
