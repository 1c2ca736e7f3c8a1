package publish_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/port"
	"mxcert/deploy/dane/publish/publishtest"
)

// The zone and the key of all servers here.
const (
	zone    = "example.test."
	keyName = "mxcert."
	apiKey  = "a-secret-key-of-the-api"
)

var secret = base64.StdEncoding.EncodeToString([]byte("thirty-two bytes that are secret"))

// zoneFile is a zone with what it must have, and an address.
const zoneFile = "$TTL 3600\n@ SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\nns1 A 127.0.0.1\nmx A 127.0.0.1\n*.wild TLSA 3 1 1 " +
	"0101010101010101010101010101010101010101010101010101010101010101\n"

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startNamed runs BIND with the zone, which is signed and takes updates.
func startNamed(t *testing.T, options string) (address string) {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	write(t, filepath.Join(dir, "zone"), zoneFile)
	config := write(t, filepath.Join(dir, "named.conf"), fmt.Sprintf(`
options { directory %q; listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; pid-file none; session-keyfile none; notify no; };
controls { };
key %q { algorithm hmac-sha256; secret %q; };
zone %q { type primary; file "zone"; dnssec-policy default; %s };
`, dir, port, keyName, secret, zone, options))
	startServer(t, "bind9", "named", "-g", "-c", config)
	return awaitZone(t, "127.0.0.1:"+port)
}

func startKnot(t *testing.T) (address string) {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	write(t, filepath.Join(dir, "zone"), zoneFile)
	config := write(t, filepath.Join(dir, "knot.conf"), fmt.Sprintf(`
server:
  rundir: %[1]q
  listen: 127.0.0.1@%[2]s
database:
  storage: %[1]q
log:
  - target: stderr
    any: info
key:
  - id: %[3]s
    algorithm: hmac-sha256
    secret: %[4]s
acl:
  - id: ours
    key: %[3]s
    action: update
zone:
  - domain: %[5]s
    storage: %[1]q
    file: zone
    zonefile-sync: -1
    zonefile-load: whole
    dnssec-signing: on
    acl: ours
`, dir, port, keyName, secret, zone))
	startServer(t, "knot", "knotd", "-c", config)
	return awaitZone(t, "127.0.0.1:"+port)
}

// startPowerDNS runs PowerDNS with the zone in SQLite, with its API and dynamic updates.
func startPowerDNS(t *testing.T) (address, api string) {
	t.Helper()
	dir, port, web := t.TempDir(), freePort(t), freePort(t)
	pdns := lookProgram(t, "pdns-server", "pdns_server")
	root := filepath.Dir(filepath.Dir(filepath.Dir(pdns))) // of the package, also if it is only unpacked
	modules, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu/pdns"))
	schema, err := os.ReadFile(filepath.Join(root, "usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql"))
	if err != nil || len(modules) != 1 {
		t.Fatalf("the Debian package pdns-backend-sqlite3 is needed: %v, %v", err, modules)
	}
	database := filepath.Join(dir, "pdns.db")
	create := exec.Command(lookProgram(t, "sqlite3", "sqlite3"), database)
	create.Stdin = strings.NewReader("PRAGMA journal_mode=WAL;\n" + string(schema)) // readers do not lock out those who write
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	write(t, filepath.Join(dir, "pdns.conf"), fmt.Sprintf(`
launch=gsqlite3
gsqlite3-database=%s
gsqlite3-dnssec=yes
gsqlite3-pragma-synchronous=0
module-dir=%s
socket-dir=%s
local-address=127.0.0.1
local-port=%s
api=yes
api-key=%s
webserver=yes
webserver-address=127.0.0.1
webserver-port=%s
dnsupdate=yes
allow-dnsupdate-from=127.0.0.0/8
max-tcp-connections=200
`, database, modules[0], dir, port, apiKey, web))
	write(t, filepath.Join(dir, "zone"), zoneFile)
	for _, args := range [][]string{
		{"load-zone", zone, filepath.Join(dir, "zone")}, {"secure-zone", zone}, {"set-meta", zone, "SOA-EDIT-API", "DEFAULT"},
		{"import-tsig-key", keyName, "hmac-sha256", secret}, {"set-meta", zone, "TSIG-ALLOW-DNSUPDATE", keyName},
	} {
		util := withLibraries(exec.Command(lookProgram(t, "pdns-server", "pdnsutil"), append([]string{"--config-dir=" + dir}, args...)...))
		if out, err := util.CombinedOutput(); err != nil {
			t.Fatalf("pdnsutil %s: %v: %s", args, err, out)
		}
	}
	startServer(t, "pdns-server", "pdns_server", "--config-dir="+dir, "--daemon=no", "--guardian=no", "--disable-syslog")
	return awaitZone(t, "127.0.0.1:"+port), "127.0.0.1:" + web
}

// lookProgram finds a program of a Debian package.
func lookProgram(t *testing.T, pkg, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") != "" {
			t.Fatalf("the Debian package %s is needed: %v", pkg, err)
		}
		t.Skipf("the Debian package %s is not installed", pkg)
	}
	return path
}

// withLibraries lets a program of a package that is unpacked, but not installed, find its libraries.
func withLibraries(cmd *exec.Cmd) *exec.Cmd {
	root := filepath.Dir(filepath.Dir(filepath.Dir(cmd.Path)))
	libraries, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
	more, _ := filepath.Glob(filepath.Join(root, "lib/*-linux-gnu"))
	libraries = append(libraries, more...)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	return cmd
}

// startServer runs a name server of a Debian package, in the foreground, until the test ends.
func startServer(t *testing.T, pkg, name string, args ...string) {
	t.Helper()
	var said bytes.Buffer
	cmd := withLibraries(exec.Command(lookProgram(t, pkg, name), args...))
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			text := said.String()
			t.Logf("%s said:\n%s", name, text[max(0, len(text)-8000):])
		}
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	return strconv.Itoa(port.Reserve(t))
}

// awaitZone waits until the server serves the zone, signed.
func awaitZone(t *testing.T, address string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ; ; time.Sleep(50 * time.Millisecond) {
		for _, rr := range ask(ctx, address, zone, dns.TypeDNSKEY) {
			if rr.Header().Rrtype == dns.TypeDNSKEY {
				return address
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("%s does not serve %s", address, zone)
		}
	}
}

func ask(ctx context.Context, address, name string, kind uint16) []dns.RR {
	question := new(dns.Msg).SetQuestion(name, kind)
	question.SetEdns0(4096, true)
	answer, _, err := (&dns.Client{Net: "tcp"}).ExchangeContext(ctx, question, address)
	if err != nil {
		return nil
	}
	return answer.Answer
}

// heldInDNS asks the server for what is at a name.
func heldInDNS(address string) func(*testing.T, string) []string {
	return func(t *testing.T, name string) []string {
		t.Helper()
		found := map[string]bool{}
		for _, kind := range []uint16{dns.TypeTLSA, dns.TypeTXT, dns.TypeCNAME} {
			for _, rr := range ask(t.Context(), address, name, kind) {
				if h := rr.Header(); h.Rrtype != dns.TypeRRSIG && dns.CanonicalName(h.Name) == name {
					value := strings.TrimPrefix(rr.String(), h.String())
					if h.Rrtype == dns.TypeTLSA {
						value = strings.ToLower(value)
					}
					found[dns.TypeToString[h.Rrtype]+" "+value] = true
				}
			}
		}
		var all []string
		for text := range found {
			all = append(all, text)
		}
		return all
	}
}

// putByUpdate adds a record by a dynamic update of its own.
func putByUpdate(address string) func(*testing.T, string, int, string, string) {
	return func(t *testing.T, name string, ttl int, kind, value string) {
		t.Helper()
		rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", name, ttl, kind, value))
		if err != nil {
			t.Fatal(err)
		}
		message := new(dns.Msg).SetUpdate(zone)
		message.Insert([]dns.RR{rr})
		message.SetTsig(keyName, dns.HmacSHA256, 300, time.Now().Unix())
		client := &dns.Client{Net: "tcp", TsigSecret: map[string]string{keyName: secret}}
		for range 600 {
			var answer *dns.Msg
			if answer, _, err = client.ExchangeContext(t.Context(), message.Copy(), address); err == nil && answer.Rcode == dns.RcodeSuccess {
				return
			}
			time.Sleep(100 * time.Millisecond) // SQLite was locked, or there are too many connections
		}
		t.Fatalf("%s cannot be added: %v", rr, err)
	}
}

// run runs the conformance test of a service.
func run(t *testing.T, s publishtest.Service) {
	s.Zone, s.Primary = zone, "ns1."+zone
	s.Secrets = append(s.Secrets, secret, apiKey, "wrong-secret")
	publishtest.Run(t, s)
}
