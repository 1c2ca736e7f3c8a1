package resolve_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/port"
)

// wildZone has the records of a zone that begins with a wildcard for everything, as hosters make them.
const wildZone = `$TTL 60
@ SOA ns1 hostmaster 1 3600 600 86400 60
@ NS ns1
ns1 A 127.0.0.1
mx A 127.0.0.1
* CNAME www.hoster.test.
*.nested CNAME www.hoster.test.
*.deep.nested CNAME other.hoster.test.
below.nested A 127.0.0.1
host.terminal A 127.0.0.1
_acme-challenge.real CNAME x.acme.hoster.test.
_acme-challenge.same CNAME www.hoster.test.
_acme-challenge.wild CNAME any.wild.hoster.test.
renamed DNAME acme.hoster.test.
moved DNAME wild.hoster.test.
child NS ns1
*.dn DNAME acme.hoster.test.
`

// The place of a record in a zone with wildcards is the name itself, unless a record of its own leads elsewhere: at real servers, in zones
// that are not signed, or signed with NSEC or NSEC3, where a server proves by more records that a name does not exist.
func TestWildcardsOfRealServers(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) string{"BIND": startNamed, "Knot": startKnot} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := start(t)
			for _, zone := range []string{"plain.test.", "nsec.test.", "nsec3.test."} {
				for _, tt := range []struct{ what, name, owner, zone string }{
					{"a name that only the wildcard has", "imap", "", ""}, {"two labels that only the wildcard has", "a.b", "", ""},
					{"a name with a record", "mx", "", ""}, {"a name below one with a record", "a.mx", "", ""},
					{"a wildcard below", "a.nested", "", ""}, {"a wildcard below that", "a.deep.nested", "", ""}, {"the owner of a wildcard", "nested", "", ""},
					{"a name beside a wildcard below", "below.nested", "", ""},
					{"an empty non-terminal", "terminal", "", ""}, {"a name below an empty non-terminal", "new.terminal", "", ""}, {"the end of one", "host.terminal", "", ""},
					{"an alias of its own", "real", "x.acme.hoster.test.", "acme.hoster.test."}, {"an alias of its own to the same target", "same", "www.hoster.test.", "hoster.test."},
					{"a name below an alias", "a.same", "", ""},
					{"an alias to a wildcard", "wild", "any.wild.hoster.test.", "hoster.test."},
					{"a renamed tree", "mx.renamed", "_acme-challenge.mx.acme.hoster.test.", "acme.hoster.test."},
					{"a tree renamed to a wildcard", "mx.moved", "_acme-challenge.mx.wild.hoster.test.", "hoster.test."},
					{"a wildcard of a renamed tree", "mx.dn", "", ""}, {"one level of it", "dn", "", ""},
					{"a child zone", "mx.child", "_acme-challenge.mx.child." + zone, "child." + zone},
				} {
					full := "_acme-challenge." + tt.name + "." + zone
					want := resolve.Place{Name: tt.owner, Zone: tt.zone}
					if tt.owner == "" {
						want = resolve.Place{Name: full, Zone: zone}
					}
					got, err := resolve.New([]string{address}).Locate(t.Context(), full)
					if got.Primary = ""; err != nil || got != want {
						t.Errorf("%s, %s: %+v, %v", tt.what, full, got, err)
					}
				}
				if got, err := resolve.New([]string{address}).Locate(t.Context(), "_acme-challenge."+zone); err != nil || got.Name != "_acme-challenge."+zone || got.Zone != zone {
					t.Errorf("the zone itself, beside its wildcard: %+v, %v", got, err)
				}
			}
		})
	}
}

// wildZones writes the zone files and returns the zones.
func wildZones(t *testing.T, dir string) (zones []string) {
	t.Helper()
	const head = "$TTL 60\n@ SOA ns1.plain.test. hostmaster 1 3600 600 86400 60\n@ NS ns1.plain.test.\n"
	texts := map[string]string{"plain.test": wildZone, "nsec.test": wildZone, "nsec3.test": wildZone,
		"hoster.test": head + "www A 127.0.0.1\n* CNAME www\n*.wild CNAME www\nacme NS ns1.plain.test.\n", "acme.hoster.test": head}
	for _, parent := range []string{"plain", "nsec", "nsec3"} {
		texts["child."+parent+".test"] = head
	}
	for zone, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, zone), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		zones = append(zones, zone)
	}
	return zones
}

func startNamed(t *testing.T) (address string) {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	var c strings.Builder
	fmt.Fprintf(&c, "options { directory %q; listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; pid-file none; session-keyfile none; notify no; };\ncontrols { };\n", dir, port)
	c.WriteString("dnssec-policy hashed { keys { csk lifetime unlimited algorithm ecdsap256sha256; }; nsec3param iterations 0 optout no salt-length 0; };\n")
	for _, zone := range wildZones(t, dir) {
		policy := map[string]string{"nsec.test": "dnssec-policy default; inline-signing yes;", "nsec3.test": "dnssec-policy hashed; inline-signing yes;"}[zone]
		fmt.Fprintf(&c, "zone %q { type primary; file %[1]q; %s };\n", zone, policy)
	}
	config := filepath.Join(dir, "named.conf")
	if err := os.WriteFile(config, []byte(c.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	startServer(t, "bind9", "named", "-g", "-c", config)
	return awaitSigned(t, "127.0.0.1:"+port)
}

func startKnot(t *testing.T) (address string) {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	var c strings.Builder
	fmt.Fprintf(&c, "server:\n  rundir: %q\n  listen: 127.0.0.1@%s\ndatabase:\n  storage: %[1]q\nlog:\n  - target: stderr\n    any: info\npolicy:\n  - id: plain\n    single-type-signing: on\n  - id: hashed\n    single-type-signing: on\n    nsec3: on\nzone:\n", dir, port)
	for _, zone := range wildZones(t, dir) {
		fmt.Fprintf(&c, "  - domain: %s\n    storage: %q\n    file: %[1]s\n    zonefile-sync: -1\n", zone, dir)
		if policy := map[string]string{"nsec.test": "plain", "nsec3.test": "hashed"}[zone]; policy != "" {
			fmt.Fprintf(&c, "    dnssec-signing: on\n    dnssec-policy: %s\n", policy)
		}
	}
	config := filepath.Join(dir, "knot.conf")
	if err := os.WriteFile(config, []byte(c.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	startServer(t, "knot", "knotd", "-c", config)
	return awaitSigned(t, "127.0.0.1:"+port)
}

// startServer runs a name server of a Debian package, in the foreground, until the test ends.
func startServer(t *testing.T, pkg, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") != "" {
			t.Fatalf("the Debian package %s is needed: %v", pkg, err)
		}
		t.Skipf("the Debian package %s is not installed", pkg)
	}
	var said bytes.Buffer
	cmd := exec.Command(path, args...)
	libraries, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "../lib/*-linux-gnu")) // of a package that is unpacked, but not installed
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, said.String())
		}
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	return strconv.Itoa(port.Reserve(t))
}

// awaitSigned waits until the server has signed its zones: an answer about a missing name has the records that prove it.
func awaitSigned(t *testing.T, address string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for zone, proof := range map[string]uint16{"nsec.test.": dns.TypeNSEC, "nsec3.test.": dns.TypeNSEC3, "plain.test.": dns.TypeSOA} {
		for done := false; !done; time.Sleep(50 * time.Millisecond) {
			question := new(dns.Msg).SetQuestion("missing.mx."+zone, dns.TypeTXT)
			question.SetEdns0(1232, true)
			if answer, _, err := new(dns.Client).ExchangeContext(ctx, question, address); err == nil {
				for _, rr := range answer.Ns {
					done = done || rr.Header().Rrtype == proof
				}
			}
			if ctx.Err() != nil {
				t.Fatalf("%s does not serve %s with its proofs", address, zone)
			}
		}
	}
	return address
}
