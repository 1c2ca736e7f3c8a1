package dane_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/port"
	"mxcert/deploy/dane"
)

// realZones are served and signed by real servers: nsec.test and nsec3.test alike, cut._tcp… with a zone of its own.
const head = "$TTL 60\n@ SOA ns.test. hostmaster.test. 1 3600 600 86400 30\n@ NS ns.test.\n"

var realZones = map[string]string{
	"test": head + "ns A 127.0.0.1\nnsec NS ns\nnsec3 NS ns\nplain NS ns\n",
	"signed": head + `_25._tcp.mx 3600 TLSA 3 1 1 01
_25._tcp.alias 1800 CNAME _25._tcp.mx
_25._tcp.far 7200 CNAME _25._tcp.mx.plain.test.
*.wild 900 TLSA 3 1 1 01
*.wildalias 900 CNAME _25._tcp.mx
old 1200 DNAME moved
_25._tcp.moved 300 TLSA 3 1 1 01
_tcp.cut NS ns.test.
`,
	"plain.test": head + "_25._tcp.mx 600 TLSA 3 1 1 02\n",
	"cut":        head + "_25 240 TLSA 3 1 1 01\n",
}

// TestLookAtRealServers looks at records of every kind that BIND and Knot sign themselves, with NSEC and with NSEC3.
func TestLookAtRealServers(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) string{"BIND": startNamed, "Knot": startKnot} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := start(t)
			for _, zone := range []string{"nsec.test", "nsec3.test"} {
				for _, tt := range []struct{ host, sets, place string }{
					{"mx", "1h0m0s 3 1 1 01", "_25._tcp.mx."}, {"alias", "1h0m0s 3 1 1 01", "_25._tcp.mx."}, {"none", "30s", "_25._tcp.none."},
					{"far", "2h0m0s 3 1 1 02", "plain.test. _25._tcp.mx.plain.test."}, {"wild", "15m0s 3 1 1 01", ""}, {"wildalias", "1h0m0s 3 1 1 01", "_25._tcp.mx."},
					{"old", "20m0s 3 1 1 01", "_25._tcp.moved."}, {"cut", "4m0s 3 1 1 01", "_tcp.cut." + zone + ". _25._tcp.cut." + zone + "."},
				} {
					r := resolve.New([]string{believer(t, address)}, address)
					v := dane.Look(t.Context(), r, dane.Owner{Host: tt.host + "." + zone, Port: 25}, dane.Settings{}, state.Instant{At: time.Now()})
					if sets(v) != tt.sets || tt.host != "far" && v.Fault() != "" {
						t.Errorf("%s: sets %q, fault %q, steps %s", v.Owner.Name(), sets(v), v.Fault(), steps(v))
					}
					if until := v.SignedUntil(); time.Until(until) < time.Hour {
						t.Errorf("%s: signed until %s", v.Owner.Name(), until)
					}
					if tt.place != "" && strings.Count(tt.place, " ") == 0 {
						tt.place = zone + ". " + tt.place + zone + "."
					}
					place, err := dane.Locate(t.Context(), r, v)
					if (err == nil) != (tt.place != "") || err == nil && place.Zone+" "+place.Name != tt.place {
						t.Errorf("%s: place %+v, %v", v.Owner.Name(), place, err)
					}
				}
			}
		})
	}
}

// writeZones writes the zones, and returns those of them that are signed.
func writeZones(t *testing.T, dir string) map[string]bool {
	t.Helper()
	zones := map[string]bool{}
	write := func(zone, text string, signed bool) {
		if err := os.WriteFile(filepath.Join(dir, zone), []byte(realZones[text]), 0o600); err != nil {
			t.Fatal(err)
		}
		zones[zone] = signed
	}
	write("test", "test", false)
	write("plain.test", "plain.test", false)
	for _, zone := range []string{"nsec.test", "nsec3.test"} {
		write(zone, "signed", true)
		write("_tcp.cut."+zone, "cut", true)
	}
	return zones
}

func startNamed(t *testing.T) string {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	var c strings.Builder
	fmt.Fprintf(&c, "options { directory %q; listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; pid-file none; session-keyfile none; notify no; };\ncontrols { };\n", dir, port)
	c.WriteString("dnssec-policy hashed { keys { csk lifetime unlimited algorithm ecdsap256sha256; }; nsec3param iterations 0 optout no salt-length 0; };\n")
	for zone, signed := range writeZones(t, dir) {
		policy := ""
		if signed {
			policy = "dnssec-policy default; inline-signing yes;"
		}
		if signed && strings.HasSuffix(zone, "nsec3.test") {
			policy = "dnssec-policy hashed; inline-signing yes;"
		}
		fmt.Fprintf(&c, "zone %q { type primary; file %[1]q; %s };\n", zone, policy)
	}
	return startServer(t, "127.0.0.1:"+port, "bind9", "named", dir, c.String(), "-g")
}

func startKnot(t *testing.T) string {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	var c strings.Builder
	fmt.Fprintf(&c, "server:\n  rundir: %q\n  listen: 127.0.0.1@%s\ndatabase:\n  storage: %[1]q\nlog:\n  - target: stderr\n    any: info\npolicy:\n  - id: plain\n    single-type-signing: on\n  - id: hashed\n    single-type-signing: on\n    nsec3: on\nzone:\n", dir, port)
	for zone, signed := range writeZones(t, dir) {
		fmt.Fprintf(&c, "  - domain: %s\n    storage: %q\n    file: %[1]s\n    zonefile-sync: -1\n", zone, dir)
		if policy := map[bool]string{true: "hashed", false: "plain"}[strings.HasSuffix(zone, "nsec3.test")]; signed {
			fmt.Fprintf(&c, "    dnssec-signing: on\n    dnssec-policy: %s\n", policy)
		}
	}
	return startServer(t, "127.0.0.1:"+port, "knot", "knotd", dir, c.String())
}

// startServer runs a name server of a Debian package, in the foreground, until the test ends. It returns when all zones are signed.
func startServer(t *testing.T, address, pkg, name, dir, config string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") != "" {
			t.Fatalf("the Debian package %s is needed: %v", pkg, err)
		}
		t.Skipf("the Debian package %s is not installed", pkg)
	}
	file := filepath.Join(dir, "server.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(path, append(args, "-c", file)...)
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
	awaitSigned(t, address)
	return address
}

// awaitSigned waits until the server signs its denials with NSEC and NSEC3.
func awaitSigned(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for zone, proof := range map[string]uint16{"nsec.test.": dns.TypeNSEC, "nsec3.test.": dns.TypeNSEC3, "_tcp.cut.nsec.test.": dns.TypeNSEC, "_tcp.cut.nsec3.test.": dns.TypeNSEC3, "plain.test.": dns.TypeSOA} {
		for done := false; !done; time.Sleep(50 * time.Millisecond) {
			question := new(dns.Msg).SetQuestion("missing."+zone, dns.TypeTXT)
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
}

func freePort(t *testing.T) string {
	t.Helper()
	return strconv.Itoa(port.Reserve(t))
}

// believer is a resolver that passes on what an authoritative server answers, as a validator does that found the DS records of its zones.
func believer(t *testing.T, authoritative string) string {
	t.Helper()
	address := port.Address(t)
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address) // for who has waited too long for a datagram
	if err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		answer, _, err := (&dns.Client{Net: "tcp", Timeout: 20 * time.Second}).ExchangeContext(t.Context(), question, authoritative)
		if err != nil {
			return
		}
		answer.AuthenticatedData = !strings.HasSuffix(strings.ToLower(question.Question[0].Name), "plain.test.")
		if _, datagram := w.LocalAddr().(*net.UDPAddr); datagram {
			answer.Truncate(1232)
		}
		_ = w.WriteMsg(answer)
	})
	for _, server := range []*dns.Server{{PacketConn: conn, Handler: handler}, {Listener: listener, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return address
}
