package resolve_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

const challenge = "_acme-challenge.mx.many.example."

// fleet is a resolver and the authoritative servers ns1, ns2… of many.example, each at an address of its own.
type fleet struct {
	*resolve.Resolver
	world   *nameserver.World
	servers []*nameserver.Server
}

func newFleet(t testing.TB, n int, more ...string) *fleet {
	t.Helper()
	records := append([]string{`_acme-challenge.mx TXT "one"`, `_acme-challenge.mx TXT "foreign"`}, more...)
	for i := 1; i <= n; i++ {
		records = append(records, fmt.Sprintf("@ NS ns%d", i), fmt.Sprintf("ns%d A 127.0.0.%d", i, i+10))
	}
	f := &fleet{world: world(t, map[string][]string{"many.example": records})}
	var known []string
	for i := 1; i <= n; i++ {
		s := listen(t, f.world, fmt.Sprintf("127.0.0.%d:0", i+10), "many.example")
		f.servers, known = append(f.servers, s), append(known, s.Address())
	}
	f.Resolver = resolve.New([]string{listen(t, f.world, "127.0.0.1:0").Address()}, known...)
	return f
}

func wanted(values ...string) []resolve.TXT {
	return []resolve.TXT{{Name: challenge, Zone: "many.example.", Values: values}}
}

func TestAwaitTXT(t *testing.T) {
	t.Parallel()
	behind := nameserver.Faults{Lag: time.Hour}
	for _, tt := range []struct {
		what    string
		require resolve.Require
		faults  []nameserver.Faults // of ns1, ns2, ns3
		values  []string
		says    []string // of the error; nil: none
		silent  []string // what it does not say
	}{
		{what: "all serve it", require: resolve.All, values: []string{"one"}},
		{what: "two values at one name", require: resolve.All, values: []string{"one", "new"}},
		{what: "one of two values", require: resolve.All, values: []string{"one", "never"}, says: []string{"ns1.many.example", "ns2.many.example", "it serves 1 of 2 values of _acme-challenge.mx.many.example (SOA serial 2)"}},
		{what: "one lags a little", require: resolve.All, faults: []nameserver.Faults{{}, {Lag: 300 * time.Millisecond}}, values: []string{"new"}},
		{what: "one is behind", require: resolve.All, faults: []nameserver.Faults{{}, behind}, values: []string{"new"},
			says: []string{"many.example were not visible everywhere", "ns2.many.example [127.0.0.12:", "SOA serial 1"}, silent: []string{"ns1", "ns3"}},
		{what: "one is behind, quorum", require: resolve.Quorum, faults: []nameserver.Faults{{}, behind}, values: []string{"new"}},
		{what: "two are behind, quorum", require: resolve.Quorum, faults: []nameserver.Faults{behind, behind}, values: []string{"new"}, says: []string{"ns1.", "ns2."}, silent: []string{"ns3"}},
		{what: "one fails", require: resolve.All, faults: []nameserver.Faults{{Rcode: dns.RcodeServerFailure}}, values: []string{"new"}, says: []string{"ns1.", "it answers SERVFAIL"}, silent: []string{"ns2", "ns3"}},
		{what: "one is dead", require: resolve.All, faults: []nameserver.Faults{{}, {}, {Dead: true}}, values: []string{"new"}, says: []string{"ns3.", "no answer"}, silent: []string{"ns1", "ns2"}},
		{what: "one has no TCP", require: resolve.All, faults: []nameserver.Faults{{NoTCP: true}}, values: []string{"new"}},
		{what: "one truncates", require: resolve.All, faults: []nameserver.Faults{{Truncate: true}}, values: []string{"new"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 3)
			for i, faults := range tt.faults {
				f.servers[i].SetFaults(faults)
			}
			if err := f.world.Add(challenge + ` 60 IN TXT "new"`); err != nil {
				t.Fatal(err)
			}
			timeout := 10 * time.Second
			if tt.says != nil {
				timeout = 3 * time.Second // the others answer in that time, however busy the machine is
			}
			err := f.AwaitTXT(t.Context(), wanted(tt.values...), tt.require, timeout, nil)
			if tt.says == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := errors.AsType[*resolve.Error](err)
			if !ok || !e.Temporary() || e.Kind() != "propagation" || e.Stage() != "propagation" || e.Hint() == "" {
				t.Fatalf("got %v", err)
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			for _, s := range tt.silent {
				if strings.Contains(err.Error(), s+".") {
					t.Errorf("%q names %q", err, s)
				}
			}
		})
	}
}

// TestHintOfPropagation names what helps, and never what is set already.
func TestHintOfPropagation(t *testing.T) {
	t.Parallel()
	behind := nameserver.Faults{Lag: time.Hour}
	for _, tt := range []struct {
		what    string
		require resolve.Require
		values  []string
		says    string
		silent  []string
	}{
		{"all are behind", resolve.All, []string{"new"}, "NOTIFY, zone transfer, firewall on port 53), or raise dns.propagation.timeout, or set dns.propagation.require: quorum", []string{"none"}},
		{"all are behind, quorum", resolve.Quorum, []string{"new"}, "dns.propagation.require: none", []string{"quorum"}},
		{"a script that replaces", resolve.All, []string{"one", "replaced"}, "has to add each value and leave the others", []string{"NOTIFY", "quorum", "none"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2)
			for _, s := range f.servers {
				s.SetFaults(behind)
			}
			if err := f.world.Add(challenge + ` 60 IN TXT "new"`); err != nil {
				t.Fatal(err)
			}
			e, ok := errors.AsType[*resolve.Error](f.AwaitTXT(t.Context(), wanted(tt.values...), tt.require, 2*time.Second, nil))
			if !ok || !strings.Contains(e.Hint(), tt.says) {
				t.Fatalf("%v: %v", e, e.Hint())
			}
			for _, s := range tt.silent {
				if strings.Contains(e.Hint(), s) {
					t.Errorf("%q names %q", e.Hint(), s)
				}
			}
		})
	}
}

// TestSilentFamily: this host has an IPv6 address and a route, but nothing comes back, as behind many firewalls.
func TestSilentFamily(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what    string
		records []string // beside ns1 with its IPv4 address
		require resolve.Require
		fails   bool
	}{
		{"one host with both families, quorum", []string{"ns1 AAAA ::1"}, resolve.Quorum, false},
		{"a host with IPv6 only, quorum", []string{"@ NS ns6", "ns6 AAAA ::1"}, resolve.Quorum, false},
		{"one host with both families, all", []string{"ns1 AAAA ::1"}, resolve.All, true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "[::1]:0")
			if err != nil {
				t.Skipf("this machine has no IPv6: %v", err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			f := newFleet(t, 1, tt.records...)
			f.Resolver = resolve.New(f.Servers(), f.servers[0].Address(), conn.LocalAddr().String())
			err = f.AwaitTXT(t.Context(), wanted("one"), tt.require, 9*time.Second, nil)
			if !tt.fails {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := errors.AsType[*resolve.Error](err)
			if !ok || !strings.Contains(err.Error(), "no IPv6 address answers (ns1.many.example [[::1]:") || !strings.Contains(e.Hint(), "ping -6") || !strings.Contains(e.Hint(), "quorum") {
				t.Errorf("got %v: %v", err, e.Hint())
			}
		})
	}
}

// TestWildcardWhereTheRecordIsMissing: a server that does not have the record yet answers with the CNAME of a wildcard.
func TestWildcardWhereTheRecordIsMissing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, "* CNAME www.hoster.example.")
	records := []resolve.TXT{{Name: "_acme-challenge.imap.many.example.", Zone: "many.example.", Values: []string{"x"}}}
	err := f.AwaitTXT(t.Context(), records, resolve.All, time.Second, nil)
	if want := "it has a CNAME at _acme-challenge.imap.many.example, from a wildcard or of its own, to www.hoster.example, and not the record (SOA serial 1)"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not say %q", err, want)
	}
}

// TestAwaitTXTTellsOfEachServer: never two at once, so that the caller needs no lock.
func TestAwaitTXTTellsOfEachServer(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	records := wanted("one")
	for i := range 5 {
		zone := fmt.Sprintf("z%d.example.", i)
		if err := f.world.AddZone(zone, "@ NS ns1.many.example.", "@ TXT x"); err != nil {
			t.Fatal(err)
		}
		records = append(records, resolve.TXT{Name: zone, Zone: zone, Values: []string{"x"}})
	}
	all := listen(t, f.world, "127.0.0.11:0") // serves the other zones too
	f.Resolver = resolve.New(f.Servers(), append([]string{all.Address()}, f.servers[1].Address(), f.servers[2].Address())...)
	var told []string
	var busy sync.Mutex
	err := f.AwaitTXT(t.Context(), records, resolve.All, 10*time.Second, func(text string) {
		if !busy.TryLock() {
			t.Error("two servers are reported at once")
			return
		}
		defer busy.Unlock()
		time.Sleep(10 * time.Millisecond)
		told = append(told, text)
	})
	if err != nil || len(told) != 8 { // nothing about parents: the zones are private
		t.Fatalf("%d lines: %q, %v", len(told), told, err)
	}
	if !slices.ContainsFunc(told, func(s string) bool {
		return strings.HasPrefix(s, "ns2.many.example [127.0.0.12:") && strings.HasSuffix(s, "serves them (SOA serial 1)")
	}) {
		t.Errorf("told %q", told)
	}
}

func TestAwaitTXTOfNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.world.ResetLog()
	if err := f.AwaitTXT(t.Context(), wanted("never"), resolve.None, time.Second, nil); err != nil || len(f.world.Queries()) != 0 {
		t.Errorf("%v, %d questions", err, len(f.world.Queries()))
	}
	if err := f.AwaitTXT(t.Context(), nil, resolve.All, time.Second, nil); err != nil {
		t.Error(err)
	}
	records := []resolve.TXT{{Name: "x.none.example.", Zone: "none.example.", Values: []string{"x"}}}
	err := f.AwaitTXT(t.Context(), records, resolve.All, time.Second, nil)
	if e, ok := errors.AsType[*resolve.Error](err); !ok || e.Kind() != "dns" || e.Stage() != "dns" || !strings.Contains(err.Error(), "no name server") {
		t.Errorf("a zone without servers: %v", err)
	}
}

// TestAddressesOutOfReach: a host without IPv6 cannot ask over it, but a CA can. What cannot be asked does not hold up.
func TestAddressesOutOfReach(t *testing.T) {
	t.Parallel()
	if os.Getenv(lonelyEnv) == "" {
		if os.Geteuid() != 0 {
			t.Skip("only root can have a network of its own, in which IPv6 addresses are out of reach")
		}
		child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), lonelyEnv+"=1")
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	raiseLoopback(t)
	f := newFleet(t, 2, "ns1 AAAA 2001:db8::53", "@ NS ns6", "ns6 AAAA 2001:db8::54")
	for _, require := range []resolve.Require{resolve.All, resolve.Quorum} {
		if err := f.AwaitTXT(t.Context(), wanted("one"), require, 5*time.Second, nil); err != nil {
			t.Errorf("%s: %v", require, err)
		}
	}
	lost := newFleet(t, 0, "@ NS ns6", "ns6 AAAA 2001:db8::54")
	err := lost.AwaitTXT(t.Context(), wanted("one"), resolve.All, 5*time.Second, nil)
	if e, ok := errors.AsType[*resolve.Error](err); !ok || e.Kind() != "propagation" || !strings.Contains(err.Error(), "cannot reach any of its servers") {
		t.Errorf("only IPv6: %v", err)
	}
}

// lonelyEnv is set in the process that has nothing but a loopback interface.
const lonelyEnv = "MXCERT_TEST_LOOPBACK_ONLY"

func raiseLoopback(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	loopback.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, loopback); err != nil {
		t.Fatal(err)
	}
}

func TestQuorumLeavesNobodyBehind(t *testing.T) {
	f := newFleet(t, 3)
	f.servers[2].SetFaults(nameserver.Faults{Dead: true})
	before := runtime.NumGoroutine()
	for range 3 {
		if err := f.AwaitTXT(t.Context(), wanted("one"), resolve.Quorum, 10*time.Second, nil); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}
