package dane

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mxcert/packaging/e2e/world"
)

// Addresses of the servers that take updates, and of their secondaries. The late secondary is told nothing: it asks every two seconds.
const (
	bindPrimary     = "203.0.113.11"
	lateSecondary   = "203.0.113.12" // BIND
	promptSecondary = "203.0.113.13" // Knot
	knotPrimary     = "203.0.113.14"
	pdnsPrimary     = "203.0.113.15"
)

const (
	live       = "/srv/live/"
	tsigSecret = "c2l4dGVlbiB0aW1lcyB0d28gbWFrZXMgMzIgYnl0ZXMu" // of the keys mxcert. and test.; secret to nobody
	apiKey     = "an-api-key-of-the-test"
)

// servers are the programs that serve the zones of sites.
type servers struct {
	host  *world.Host
	sites []*site
	runs  map[string]*world.Process

	frozen map[*site]string // files that the prompt secondary serves instead of what the primary has
}

// serveZones starts the servers on a host, and returns the DS records of the zones.
func serveZones(ctx context.Context, host *world.Host, sites []*site) (*servers, map[string]string, error) {
	s := &servers{host: host, sites: sites, runs: map[string]*world.Process{}}
	for _, address := range []string{bindPrimary, lateSecondary, promptSecondary, knotPrimary, pdnsPrimary} {
		if err := host.AddAddress(address + "/24"); err != nil {
			return nil, nil, err
		}
	}
	for _, site := range sites {
		where := site.service
		if site.signing == "later" {
			where = "bind"
		}
		if err := host.Write(live+where+"/"+site.domain(), site.zoneFile(), 0o644); err != nil {
			return nil, nil, err
		}
	}
	for path, text := range map[string]string{
		"bind/named.conf": s.bindConf(), "late/named.conf": s.lateConf(), "knot/knot.conf": s.knotConf(), "prompt/knot.conf": s.promptConf(),
		"pdns/pdns.conf": pdnsConf, "pdns/setup": s.pdnsSetup(),
	} {
		if err := host.Write(live+path, text, 0o644); err != nil {
			return nil, nil, err
		}
	}
	if _, err := host.Must(ctx, "sh", "-ec", "cd "+live+"pdns && sh -e ./setup"); err != nil {
		return nil, nil, err
	}
	var ds map[string]string
	for _, names := range [][]string{{"bind", "knot", "pdns"}, {"late", "prompt"}} {
		for _, name := range names {
			if err := s.start(name); err != nil {
				return nil, nil, err
			}
		}
		var err error
		if ds, err = s.keys(ctx, names[0] == "late"); err != nil {
			return nil, nil, err
		}
	}
	return s, ds, nil
}

// start starts one of the programs, again after its end.
func (s *servers) start(name string) (err error) {
	argv := map[string][]string{
		"bind":   {"named", "-f", "-n", "1", "-c", live + "bind/named.conf"},
		"late":   {"named", "-f", "-n", "1", "-c", live + "late/named.conf"},
		"knot":   {"knotd", "-c", live + "knot/knot.conf"},
		"prompt": {"knotd", "-c", live + "prompt/knot.conf"},
		"pdns":   {"pdns_server", "--config-dir=" + live + "pdns", "--guardian=no", "--daemon=no"},
	}[name]
	// Knot takes any process with the number in an old file for itself.
	if _, err := s.host.Must(context.Background(), "rm", "-f", live+name+"/knot.pid"); err != nil {
		return err
	}
	s.runs[name], err = s.host.Start(argv...)
	return err
}

// keys waits until the primaries, or all servers, serve every zone signed, and makes the DS records.
func (s *servers) keys(ctx context.Context, all bool) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	var script strings.Builder
	for _, site := range s.sites {
		for i, address := range site.servers() {
			if i > 0 && !all {
				break
			}
			fmt.Fprintf(&script, "until dig +dnssec +norec +time=1 +tries=1 @%s %s MX | grep -q RRSIG; do echo 'wait %[2]s @%[1]s'; sleep 0.1; done\n", address, site.domain())
		}
		fmt.Fprintf(&script, "printf 'DS '; dig +norec @%s %s DNSKEY | dnssec-dsfromkey -2 -f - %[2]s | grep -v '^;' | head -n 1\n", site.servers()[0], site.domain())
	}
	r, err := s.host.Run(ctx, "sh", "-c", script.String())
	ds := map[string]string{}
	for line := range strings.Lines(r.Stdout) {
		if owner, rest, found := strings.Cut(strings.TrimPrefix(line, "DS "), " IN DS "); found {
			ds[strings.TrimSuffix(owner, ".")] = strings.TrimSpace(rest)
		}
	}
	if len(ds) != len(s.sites) {
		return nil, fmt.Errorf("not every zone is served: %v: %s\n%s\n%s", err, r.Stdout[max(0, len(r.Stdout)-60):], r.Stderr, s.logs())
	}
	return ds, nil
}

func (s *servers) logs() string {
	var b strings.Builder
	for name, p := range s.runs {
		text := p.Output()
		fmt.Fprintf(&b, "--- %s:\n%s\n", name, text[max(0, len(text)-3000):])
	}
	return b.String()
}

// of returns the sites that one service has.
func (s *servers) of(service string) (list []*site) {
	for _, site := range s.sites {
		if site.service == service {
			list = append(list, site)
		}
	}
	return list
}

var bindKeys = fmt.Sprintf(`key "mxcert." { algorithm hmac-sha256; secret %q; };
key "test." { algorithm hmac-sha256; secret %[1]q; };
`, tsigSecret)

const bindOptions = `options {
	directory "/srv/live/%s"; listen-on { %s; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; pid-file none; session-keyfile none; allow-transfer { any; }; check-names primary ignore; check-names secondary ignore;
	notify explicit; %s
};
controls { };
logging { channel errors { stderr; severity warning; }; category default { errors; }; };
`

func (s *servers) bindConf() string {
	var b strings.Builder
	fmt.Fprintf(&b, bindOptions, "bind", bindPrimary, "also-notify { "+promptSecondary+"; }; notify-delay 0;")
	b.WriteString(bindKeys)
	b.WriteString(`dnssec-policy plain { keys { csk lifetime unlimited algorithm ecdsap256sha256; }; };
dnssec-policy hashed { keys { csk lifetime unlimited algorithm ecdsap256sha256; }; nsec3param iterations 0 optout no salt-length 0; };
`)
	for _, site := range s.of("bind") {
		policy, inline := "plain", "no"
		if site.nsec3 {
			policy = "hashed"
		}
		if site.signing == "inline" {
			inline = "yes"
		}
		fmt.Fprintf(&b, "zone %q { type primary; file %[1]q; dnssec-policy %s; inline-signing %s; update-policy { grant mxcert. zonesub TXT TLSA; grant test. zonesub ANY; }; };\n",
			site.domain(), policy, inline)
	}
	for _, site := range s.of("knot") {
		if site.signing == "later" {
			fmt.Fprintf(&b, "zone %q { type primary; file %[1]q; notify no; update-policy { grant mxcert. zonesub TXT TLSA; grant test. zonesub ANY; }; };\n", site.domain())
		}
	}
	return b.String()
}

// lateConf is a secondary that finds out by itself, when the SOA record tells it to look.
func (s *servers) lateConf() string {
	var b strings.Builder
	fmt.Fprintf(&b, bindOptions, "late", lateSecondary, "min-refresh-time 1; min-retry-time 1; allow-notify { none; };")
	for _, site := range s.sites {
		if !site.onlyMain {
			fmt.Fprintf(&b, "zone %q { type secondary; file %[1]q; primaries { %s; }; masterfile-format raw; };\n", site.domain(), site.servers()[0])
		}
	}
	return b.String()
}

// update sends lines of nsupdate with the key of the test, to the primary of a site.
func (s *servers) update(ctx context.Context, of *site, lines ...string) error {
	text := fmt.Sprintf("server %s\nzone %s\nkey hmac-sha256:test. %s\n%s\nsend\n", of.updates(), of.domain(), tsigSecret, strings.Join(lines, "\n"))
	r, err := s.host.RunInput(ctx, text, "nsupdate")
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("nsupdate: exit status %d: %s%s\n%s", r.Code, r.Stdout, r.Stderr, text)
	}
	return err
}
