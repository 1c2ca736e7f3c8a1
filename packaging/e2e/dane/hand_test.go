package dane

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/world"
)

// dialUDP opens a socket of the sender to a name server.
func (w *town) dialUDP(address string) (c net.Conn, err error) {
	if failed := w.Sender.Do(func() { c, err = net.Dial("udp", net.JoinHostPort(address, "53")) }); failed != nil {
		return nil, failed
	}
	return c, err
}

// watch starts a recorder of all sites.
func (w *town) watch() *recorder {
	var sources []source
	servers := map[string][]string{}
	var ports []port
	var owners []string
	for _, s := range w.sites {
		for _, address := range s.servers() {
			servers[address] = append(servers[address], s.owners()...)
		}
		owners = append(owners, s.owners()...)
		for _, p := range s.ports {
			ports = append(ports, port{address: fmt.Sprintf("%s:%d", s.address(), p), name: s.names()[0], owners: s.ownersAt(p), kinds: s.kinds})
		}
	}
	for address, names := range servers {
		sources = append(sources, source{address: address, owners: names})
	}
	// The slow resolver counts for slow sites alone: the others do not hold back for it.
	sources = append(sources, source{address: resolver, cache: true, owners: owners})
	for _, s := range w.sites {
		if s.slow {
			sources = append(sources, source{address: slowResolver, cache: true, owners: s.owners()})
		}
	}
	r := record(w.t.Context(), w.Sender, sources, ports)
	w.t.Cleanup(func() { r.stop(); r.wait.Wait() })
	return r
}

// An outcome is what came of something that was done while mail was sent.
type outcome struct {
	counts   map[string]*tally // by sender
	broken   []broken
	recorded recording
}

// rolls counts the changes of the served keys of a site, by key type.
func (o outcome) rolls(s *site) map[string]int {
	last, n := map[string]string{}, map[string]int{}
	for _, kind := range s.kinds {
		n[kind] = 0
	}
	for _, h := range o.recorded.shakes {
		if h.failed != "" || h.address != fmt.Sprintf("%s:%d", s.address(), s.ports[0]) {
			continue
		}
		if last[h.kind] != "" && last[h.kind] != h.spki() {
			n[h.kind]++
		}
		last[h.kind] = h.spki()
	}
	return n
}

func (o outcome) String() string {
	var words []string
	for _, name := range []string{"Postfix", "Exim", "posttls-finger"} {
		words = append(words, fmt.Sprintf("%s: %d delivered, %d deferred", name, o.counts[name].sent, o.counts[name].deferred))
	}
	asked := 0
	for _, s := range o.recorded.sights {
		asked += s.count
	}
	return fmt.Sprintf("%s; recorded: %d handshakes, %d answers of name servers", strings.Join(words, ", "), len(o.recorded.shakes), asked)
}

// during sends and records while something is done.
func (w *town) during(t *testing.T, do func(ctx context.Context)) outcome {
	t.Helper()
	r, s := w.watch(), w.send()
	do(t.Context())
	done := outcome{counts: s.end(), recorded: r.end()}
	least := map[string]time.Duration{}
	for _, site := range w.sites {
		for _, owner := range site.owners() {
			if site.slow {
				least[owner] = leastTTL
			}
		}
	}
	done.broken = done.recorded.check(least)
	t.Logf("%s; without an answer: %v", done, r.silent)
	_, err := w.Sender.Must(t.Context(), "sh", "-c", "postfix stop 2>/dev/null; rm -f /var/log/postfix.log /var/spool/postfix/deferred/*/*")
	w.check(err)
	_, err = w.Sender.In(world.Exim).Must(t.Context(), "sh", "-c", "rm -rf /var/log/exim4/*-mainlog /var/spool/exim4-*")
	w.check(err)
	return done
}
