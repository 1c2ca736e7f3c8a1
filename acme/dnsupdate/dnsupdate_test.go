package dnsupdate_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/dnsupdate"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/port"
)

const (
	keyName = "mxcert."
	owner   = "_25._tcp.mx.example.org."
	tlsa    = " 60 IN TLSA 3 1 1 "
)

// secret is what must be in no error.
var secret = base64.StdEncoding.EncodeToString([]byte("thirty-two bytes that are secret"))

// newWorld has a zone and a key that may change it.
func newWorld(t testing.TB) (*nameserver.World, *nameserver.Server) {
	t.Helper()
	w := nameserver.New()
	if err := errors.Join(w.AddZone("example.org", "@ NS ns1", "ns1 A 127.0.0.1", "mx A 127.0.0.1"), w.AddKey(keyName, dns.HmacSHA256, secret)); err != nil {
		t.Fatal(err)
	}
	return w, listen(t, w)
}

func listen(t testing.TB, w *nameserver.World) *nameserver.Server {
	t.Helper()
	s, err := w.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// environ are the variables for a server; pairs NAME, VALUE change them.
func environ(server string, pairs ...string) map[string]string {
	env := map[string]string{"DNSUPDATE_NAMESERVER": server, "DNSUPDATE_TSIG_KEY": keyName, "DNSUPDATE_TSIG_SECRET": secret, "DNSUPDATE_DNS_TIMEOUT": "1"}
	for i := 0; i < len(pairs); i += 2 {
		env["DNSUPDATE_"+pairs[i]] = pairs[i+1]
	}
	return env
}

func newClient(t testing.TB, env map[string]string) dnsupdate.Client {
	t.Helper()
	c, err := dnsupdate.New(env)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rr is a record in the form of a zone file.
func rr(t testing.TB, text string) dns.RR {
	t.Helper()
	record, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func hash(n byte) string { return strings.Repeat(fmt.Sprintf("%02x", n), 32) }

// held asks the server for the TLSA records at owner, and returns the first two digits of each.
func held(t testing.TB, s *nameserver.Server) string {
	t.Helper()
	answer, err := dns.Exchange(new(dns.Msg).SetQuestion(owner, dns.TypeTLSA), s.Address())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, rr := range answer.Answer {
		out = append(out, rr.(*dns.TLSA).Certificate[:2])
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestUpdates one after another, as a roll of TLSA records sends them. The records of others stay, and each update is one
// message.
func TestUpdates(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	foreign := rr(t, owner+tlsa+hash(0xff))
	if err := w.Add(foreign.String()); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, environ(s.Address()))
	old, next := rr(t, owner+tlsa+hash(0xaa)), rr(t, owner+tlsa+hash(0xbb))
	before := [2]string{old.String(), next.String()}
	for i, tt := range []struct {
		what   string
		update dnsupdate.Update
		kind   string
		want   string
	}{
		{"add", dnsupdate.Update{Add: []dns.RR{old}}, "", "aa ff"},
		{"the same again", dnsupdate.Update{Add: []dns.RR{old}}, "", "aa ff"},
		{"replace", dnsupdate.Update{Remove: []dns.RR{old}, Add: []dns.RR{next}}, "", "bb ff"},
		{"remove what is not there", dnsupdate.Update{Remove: []dns.RR{old}}, "", "bb ff"},
		{"remove and add the same", dnsupdate.Update{Remove: []dns.RR{next}, Add: []dns.RR{next}}, "", "bb ff"},
		{"if these are there", dnsupdate.Update{Exact: []dns.RR{foreign, next}, Remove: []dns.RR{next}}, "", "ff"},
		{"if others are there", dnsupdate.Update{Exact: []dns.RR{foreign, next}, Add: []dns.RR{next}}, "dns-condition", "ff"},
		{"if the name is used", dnsupdate.Update{InUse: []string{owner}, Add: []dns.RR{next}}, "", "bb ff"},
		{"if another name is used", dnsupdate.Update{InUse: []string{"x." + owner}, Remove: []dns.RR{next}}, "dns-condition", "bb ff"},
		{"nothing", dnsupdate.Update{}, "", "bb ff"},
	} {
		tt.update.Zone = "example.org."
		err := c.Send(t.Context(), tt.update)
		e, failed := errors.AsType[*dnsupdate.Error](err)
		if failed != (tt.kind != "") || failed && (e.Kind() != tt.kind || e.Temporary() || e.Hint() == "" || !strings.Contains(e.Error(), "zone example.org: NX")) || !failed && err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
		if got := held(t, s); got != tt.want || len(w.Updates()) != i+1 {
			t.Errorf("%s: there is %q, after %d messages", tt.what, got, len(w.Updates()))
		}
	}
	if after := [2]string{old.String(), next.String()}; after != before {
		t.Errorf("the records of the caller are now %q", after)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	failing := func(f nameserver.Faults) string {
		s := listen(t, w)
		s.SetFaults(f)
		return s.Address()
	}
	gone := listen(t, w)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(secret, secret[:4], "AAAA", 1)
	for _, tt := range []struct {
		what      string
		env       map[string]string
		zone      string
		owner     string
		says      string
		hint      string
		kind      string
		temporary bool
		rcode     int
	}{
		{what: "wrong secret", env: environ(s.Address(), "TSIG_SECRET", other), says: "BADSIG at " + s.Address(), hint: "DNSUPDATE_TSIG_SECRET", kind: "tsig", rcode: dns.RcodeNotAuth},
		{what: "wrong key name", env: environ(s.Address(), "TSIG_KEY", "other"), says: "BADKEY at " + s.Address() + ": the server does not know a TSIG key other.", hint: "DNSUPDATE_TSIG_KEY", kind: "tsig", rcode: dns.RcodeNotAuth},
		{what: "wrong algorithm", env: environ(s.Address(), "TSIG_ALGORITHM", "hmac-sha512"), says: "algorithm hmac-sha512", hint: "DNSUPDATE_TSIG_ALGORITHM", kind: "tsig", rcode: dns.RcodeNotAuth},
		{what: "refused", env: environ(failing(nameserver.Faults{UpdateRcode: dns.RcodeRefused})), says: "REFUSED", hint: "grant mxcert. name " + owner + " tlsa", kind: "dns-update", rcode: dns.RcodeRefused},
		{what: "a zone of another server", env: environ(s.Address()), zone: "example.net.", owner: "mx.example.net.", says: "NOTAUTH", hint: "primary", kind: "dns-update", rcode: dns.RcodeNotAuth},
		{what: "a name outside the zone", env: environ(s.Address()), owner: "x.example.net.", says: "NOTZONE", hint: "primary", kind: "dns-update", rcode: dns.RcodeNotZone},
		{what: "server failure", env: environ(failing(nameserver.Faults{UpdateRcode: dns.RcodeServerFailure})), says: "SERVFAIL", hint: "log", kind: "dns-update", temporary: true, rcode: dns.RcodeServerFailure},
		{what: "no updates", env: environ(failing(nameserver.Faults{UpdateRcode: dns.RcodeNotImplemented})), says: "NOTIMP", hint: "a server that takes updates", kind: "dns-update", rcode: dns.RcodeNotImplemented},
		{what: "another code", env: environ(failing(nameserver.Faults{UpdateRcode: 12})), says: "response code 12 at ", hint: "log", kind: "dns-update", rcode: 12},
		{what: "dead", env: environ(failing(nameserver.Faults{Dead: true})), says: "no answer", hint: "running", kind: "dns-unreachable", temporary: true, rcode: -1},
		{what: "nobody listens", env: environ(gone.Address()), says: "connection refused", hint: "running", kind: "dns-unreachable", temporary: true, rcode: -1},
		{what: "not a name server", env: environ("192.0.2.1:notaport"), says: "notaport", hint: "running", kind: "dns-unreachable", temporary: true, rcode: -1},
		{what: "an unsigned success", env: environ(unsignedServer(t)), says: "not signed", hint: "TSIG key", kind: "dns-update"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			zone, name := tt.zone, tt.owner
			if zone == "" {
				zone = "example.org."
			}
			if name == "" {
				name = owner
			}
			c, records := newClient(t, tt.env), []dns.RR{rr(t, name+tlsa+hash(0xaa))}
			for what, err := range map[string]error{
				"add":    c.Send(t.Context(), dnsupdate.Update{Zone: zone, Add: records}),
				"remove": c.Send(t.Context(), dnsupdate.Update{Zone: zone, Remove: records}),
				"probe":  c.Probe(t.Context(), zone, records),
			} {
				e, ok := errors.AsType[*dnsupdate.Error](err)
				if !ok {
					t.Fatalf("%s: got %v", what, err)
				}
				if !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Hint(), tt.hint) || e.Kind() != tt.kind || e.Temporary() != tt.temporary || e.Rcode != tt.rcode || e.Stage() != "dns" {
					t.Errorf("%s: %v\nhint %s\nkind %s, temporary %v, code %d", what, e, e.Hint(), e.Kind(), e.Temporary(), e.Rcode)
				}
				if !strings.HasPrefix(e.Error(), "dynamic update: zone "+strings.TrimSuffix(zone, ".")+": ") {
					t.Errorf("%v does not say where", e)
				}
				if text := e.Error() + e.Hint(); strings.Contains(text, secret) || strings.Contains(text, other) || strings.Contains(text, "thirty-two") {
					t.Errorf("the secret is in %s", text)
				}
			}
		})
	}
}

// unsignedServer says yes to every update and signs nothing.
func unsignedServer(t *testing.T) string {
	t.Helper()
	started := make(chan struct{})
	server := &dns.Server{
		Addr: "127.0.0.1:0", Net: "udp", NotifyStartedFunc: func() { close(started) },
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, request *dns.Msg) {
			_ = w.WriteMsg(new(dns.Msg).SetReply(request))
		}),
	}
	go func() { _ = server.ListenAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown() })
	return server.PacketConn.LocalAddr().String()
}

// TestWrongClock runs in a bubble, whose clock stands at the year 2000.
func TestWrongClock(t *testing.T) {
	_, s := newWorld(t)
	add := dnsupdate.Update{Zone: "example.org.", Add: []dns.RR{rr(t, owner+tlsa+hash(0xaa))}}
	years := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
	synctest.Test(t, func(t *testing.T) {
		err := newClient(t, environ(s.Address())).Send(t.Context(), add)
		e, ok := errors.AsType[*dnsupdate.Error](err)
		if !ok || e.Kind() != "tsig" || !strings.Contains(e.Error(), "BADTIME at "+s.Address()) || !strings.Contains(e.Hint(), "timedatectl") {
			t.Fatalf("%v", err)
		}
		said := regexp.MustCompile(`about (\S+)\)`).FindStringSubmatch(e.Error())
		if said == nil {
			t.Fatalf("%v does not say by how much", e)
		}
		if d, err := time.ParseDuration(said[1]); err != nil || (d-years).Abs() > time.Hour {
			t.Errorf("%v, but it is %s", e, years)
		}
	})
}

func TestLostDatagrams(t *testing.T) {
	t.Parallel()
	_, s := newWorld(t)
	s.SetFaults(nameserver.Faults{NoUDP: true})
	start := time.Now()
	if err := newClient(t, environ(s.Address())).Send(t.Context(), dnsupdate.Update{Zone: "example.org.", Add: []dns.RR{rr(t, owner+tlsa+hash(0xaa))}}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	s.SetFaults(nameserver.Faults{})
	if got := held(t, s); got != "aa" || took < time.Second {
		t.Errorf("%q after %s: not over TCP after UDP", got, took)
	}
}

// TestLostAnswers: the server has done what it was asked for, and its answers over UDP are lost. An update without
// conditions is repeated; one with conditions is sent once, because its own change has made them untrue.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for what, exact := range map[string]bool{"without conditions": false, "with conditions": true} {
		w, s := newWorld(t)
		old, next := rr(t, owner+tlsa+hash(0xaa)), rr(t, owner+tlsa+hash(0xbb))
		if err := w.Add(old.String()); err != nil {
			t.Fatal(err)
		}
		u := dnsupdate.Update{Zone: "example.org.", Remove: []dns.RR{old}, Add: []dns.RR{next}}
		if exact {
			u.Exact = []dns.RR{old}
		}
		c := newClient(t, environ(s.Address()))
		c.Server = loses(t, s.Address())
		if err := c.Send(t.Context(), u); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got, messages := held(t, s), len(w.Updates()); got != "bb" || (messages == 1) != exact {
			t.Errorf("%s: there is %q after %d messages", what, got, messages)
		}
	}
}

// loses passes messages on to a server, and its answers back over TCP only.
func loses(t *testing.T, server string) string {
	t.Helper()
	tcp, err := net.Listen("tcp", port.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = tcp.Close(), udp.Close() })
	go func() {
		message := make([]byte, 4096)
		for {
			n, _, err := udp.ReadFrom(message)
			if err != nil {
				return
			}
			if conn, err := net.Dial("udp", server); err == nil {
				_, _ = conn.Write(message[:n])
				_ = conn.Close()
			}
		}
	}()
	go func() {
		for {
			client, err := tcp.Accept()
			if err != nil {
				return
			}
			conn, err := net.Dial("tcp", server)
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, client) }()
			go func() {
				_, _ = io.Copy(client, conn)
				_, _ = client.Close(), conn.Close()
			}()
		}
	}()
	return tcp.Addr().String()
}

// TestBigUpdates go over TCP at once: 512 octets is all that UDP promises.
func TestBigUpdates(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	c := newClient(t, environ(s.Address()))
	var records []dns.RR
	for i := range 100 {
		records = append(records, rr(t, fmt.Sprintf("_acme-challenge.host%d.example.org. 60 IN TXT %q", i, strings.Repeat("x", 43))))
	}
	if err := c.Send(t.Context(), dnsupdate.Update{Zone: "example.org.", Add: records}); err != nil {
		t.Fatal(err)
	}
	if updates := w.Updates(); len(updates) != 1 || updates[0].UDP || w.UpdateCount("") != 1 || len(w.Challenges()) != 100 {
		t.Errorf("%+v, %d updates, %d names", updates, w.UpdateCount(""), len(w.Challenges()))
	}
	if err := c.Send(t.Context(), dnsupdate.Update{Zone: "example.org.", Remove: records}); err != nil || len(w.Challenges()) != 0 {
		t.Errorf("%v, %d names left", err, len(w.Challenges()))
	}
}

func TestTheContextEnds(t *testing.T) {
	t.Parallel()
	_, s := newWorld(t)
	s.SetFaults(nameserver.Faults{Dead: true})
	c := newClient(t, environ(s.Address(), "DNS_TIMEOUT", "60"))
	records := []dns.RR{rr(t, owner+tlsa+hash(0xaa))}
	for what, f := range map[string]func(context.Context) error{
		"an update": func(ctx context.Context) error {
			return c.Send(ctx, dnsupdate.Update{Zone: "example.org.", Add: records})
		},
		"a probe": func(ctx context.Context) error { return c.Probe(ctx, "example.org.", records) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		time.AfterFunc(100*time.Millisecond, cancel)
		if err := f(ctx); !errors.Is(err, context.Canceled) || time.Since(start) > 2500*time.Millisecond {
			t.Errorf("%s: %v after %s", what, err, time.Since(start))
		}
	}
}

func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		what   string
		env    map[string]string
		server string
		says   string // "" if the settings are good
	}{
		{"a host", environ("192.0.2.1"), "192.0.2.1:53", ""},
		{"a host and a port", environ("ns.example.org:5353"), "ns.example.org:5353", ""},
		{"an IPv6 address", environ("2001:db8::1"), "[2001:db8::1]:53", ""},
		{"an IPv6 address in brackets", environ("[2001:db8::1]"), "[2001:db8::1]:53", ""},
		{"no server", environ(""), "", ""},
		{"a variable of others", environ("", "TTL", "1h"), "", ""},
		{"nothing", map[string]string{}, "", "DNSUPDATE_TSIG_KEY and DNSUPDATE_TSIG_SECRET: both are needed"},
		{"a secret that is cut", environ("", "TSIG_SECRET", secret[:len(secret)-1]), "", "DNSUPDATE_TSIG_SECRET: it is not base64"},
		{"an old algorithm", environ("", "TSIG_ALGORITHM", "hmac-md5.sig-alg.reg.int."), "", `"hmac-md5.sig-alg.reg.int." is not supported`},
		{"a timeout of zero", environ("", "DNS_TIMEOUT", "0"), "", `DNSUPDATE_DNS_TIMEOUT: "0" is not a number of seconds`},
		{"a missing key file", environ("", "TSIG_FILE", "/nonexistent/key"), "", "DNSUPDATE_TSIG_FILE: open /nonexistent/key"},
	} {
		c, err := dnsupdate.New(tt.env)
		e, failed := errors.AsType[*dnsupdate.Error](err)
		switch {
		case failed != (tt.says != "") || failed && !strings.Contains(e.Error(), tt.says) || c.Server != tt.server && !failed:
			t.Errorf("%s: server %q, %v", tt.what, c.Server, err)
		case failed && (e.Kind() != "dns-config" || e.Hint() == "" || e.Temporary() || e.Rcode != -1 || strings.Contains(e.Error(), secret[:20])):
			t.Errorf("%s: %#v", tt.what, e)
		}
	}
}
