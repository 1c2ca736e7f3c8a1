package nameserver_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/nameserver"
)

// TestUpdates applies changes one after another to one name.
func TestUpdates(t *testing.T) {
	w := newWorld(t)
	s := listen(t, w)
	const name = "_acme-challenge.mx.example.org."
	tests := []struct {
		what   string
		change func(m *dns.Msg)
		left   []string
		serial uint32
	}{
		{"add two", func(m *dns.Msg) { m.Insert(records(t, name+" 60 TXT one", name+" 60 TXT two")) }, []string{"one", "two"}, 2},
		{"add one again", func(m *dns.Msg) { m.Insert(records(t, name+" 60 TXT one")) }, []string{"one", "two"}, 2},
		{"another TTL", func(m *dns.Msg) { m.Insert(records(t, name+" 61 TXT one")) }, []string{"one", "two"}, 3},
		{"delete a record", func(m *dns.Msg) { m.Remove(records(t, name+" TXT one")) }, []string{"two"}, 4},
		{"delete what is not there", func(m *dns.Msg) { m.Remove(records(t, name+" TXT one")) }, []string{"two"}, 4},
		{"a CNAME beside it is ignored", func(m *dns.Msg) { m.Insert(records(t, name+" 60 CNAME mx.example.org.")) }, []string{"two"}, 4},
		{"delete and add", func(m *dns.Msg) {
			m.RemoveRRset(records(t, name+" TXT x"))
			m.Insert(records(t, name+" 60 TXT three"))
		}, []string{"three"}, 5},
		{"delete another RRset", func(m *dns.Msg) { m.RemoveRRset(records(t, name+" A 192.0.2.1")) }, []string{"three"}, 5},
		{"a record beside a CNAME is ignored", func(m *dns.Msg) { m.Insert(records(t, "alias.example.org. 60 TXT x")) }, []string{"three"}, 5},
		{"delete the name", func(m *dns.Msg) { m.RemoveName(records(t, name+" TXT x")) }, nil, 6},
	}
	for _, test := range tests {
		update := new(dns.Msg).SetUpdate("example.org.")
		test.change(update)
		if rcode := send(t, s, update); rcode != dns.RcodeSuccess {
			t.Errorf("%s: %s", test.what, dns.RcodeToString[rcode])
		}
		if got := w.TXT(name); !slices.Equal(got, test.left) {
			t.Errorf("%s: left %q, want %q", test.what, got, test.left)
		}
		if got := w.Serial("example.org"); got != test.serial {
			t.Errorf("%s: serial %d, want %d", test.what, got, test.serial)
		}
	}
	if reply := ask(t, "udp", s.Address(), name, dns.TypeTXT, false); reply.Rcode != dns.RcodeNameError {
		t.Errorf("the deleted name is answered with %s", dns.RcodeToString[reply.Rcode])
	}
}

// TestZoneStaysWhole tries to take away what a zone cannot be without (RFC 2136 section 3.4.2).
func TestZoneStaysWhole(t *testing.T) {
	w := newWorld(t)
	s := listen(t, w)
	update := new(dns.Msg).SetUpdate("example.org.")
	update.RemoveRRset(records(t, "example.org. NS ns1.example.org."))
	update.RemoveRRset(records(t, "example.org. SOA a. b. 1 1 1 1 1"))
	update.Remove(records(t, "example.org. NS ns1.example.org."))
	update.Insert(records(t, "example.org. 60 SOA a. b. 1 1 1 1 1", "mx.example.org. 60 SOA a. b. 9 1 1 1 1"))
	update.RemoveName(records(t, "example.org. A 127.0.0.1"))
	if rcode := send(t, s, update); rcode != dns.RcodeSuccess {
		t.Fatal(dns.RcodeToString[rcode])
	}
	if got := ask(t, "udp", s.Address(), "example.org", dns.TypeNS, false).Answer; len(got) != 1 {
		t.Errorf("NS records left: %v", got)
	}
	soa := ask(t, "udp", s.Address(), "example.org", dns.TypeSOA, false).Answer
	if len(soa) != 1 || soa[0].(*dns.SOA).Ns != "ns1.example.org." {
		t.Errorf("SOA left: %v", soa)
	}
	if got := ask(t, "udp", s.Address(), "example.org", dns.TypeMX, false).Answer; len(got) != 0 {
		t.Errorf("the name was deleted, yet MX is %v", got)
	}
	update = new(dns.Msg).SetUpdate("example.org.")
	update.Insert(records(t, "example.org. 60 SOA ns2.example.org. b. 100 1 1 1 1"))
	if rcode := send(t, s, update); rcode != dns.RcodeSuccess || w.Serial("example.org") != 100 {
		t.Errorf("a newer SOA: %s, serial %d", dns.RcodeToString[rcode], w.Serial("example.org"))
	}
}

func TestUpdatesRefused(t *testing.T) {
	w := newWorld(t)
	if err := w.AddKey("narrow.", dns.HmacSHA256, secret(), "example.com"); err != nil {
		t.Fatal(err)
	}
	everything, some := listen(t, w), listen(t, w, "example.com")
	tests := []struct {
		what, zone, record string
		server             *nameserver.Server
		rcode              int
	}{
		{"a zone of nobody", "example.net.", "a.example.net. 60 TXT x", everything, dns.RcodeNotAuth},
		{"a name that is no apex", "mx.example.org.", "mx.example.org. 60 TXT x", everything, dns.RcodeNotAuth},
		{"a zone of another server", "example.org.", "a.example.org. 60 TXT x", some, dns.RcodeNotAuth},
		{"a name outside", "example.org.", "a.example.com. 60 TXT x", everything, dns.RcodeNotZone},
		{"a meta type", "example.org.", "a.example.org. 60 TYPE252 \\# 0", everything, dns.RcodeFormatError},
	}
	for _, test := range tests {
		update := new(dns.Msg).SetUpdate(test.zone)
		update.Insert(records(t, test.record))
		if rcode := send(t, test.server, update); rcode != test.rcode {
			t.Errorf("%s: %s, want %s", test.what, dns.RcodeToString[rcode], dns.RcodeToString[test.rcode])
		}
	}
	if w.Serial("example.org") != 1 || w.Serial("example.com") != 1 {
		t.Error("a refused update changed a zone")
	}
	if got := w.TXTHistory("a.example.com."); len(got) != 0 {
		t.Errorf("a refused update left %q in the history", got)
	}
	if w.UpdateCount("") != 0 || len(w.Updates()) != len(tests) {
		t.Errorf("%d updates succeeded, %d are logged", w.UpdateCount(""), len(w.Updates()))
	}
}

func TestPrerequisites(t *testing.T) {
	s := listen(t, newWorld(t))
	const there, gone = "mx.example.org.", "gone.example.org."
	tests := []struct {
		what      string
		condition func(m *dns.Msg)
		rcode     int
	}{
		{"name in use", func(m *dns.Msg) { m.NameUsed(records(t, there+" A 192.0.2.1")) }, dns.RcodeSuccess},
		{"name in use, but is not", func(m *dns.Msg) { m.NameUsed(records(t, gone+" A 192.0.2.1")) }, dns.RcodeNameError},
		{"name not in use", func(m *dns.Msg) { m.NameNotUsed(records(t, gone+" A 192.0.2.1")) }, dns.RcodeSuccess},
		{"name not in use, but is", func(m *dns.Msg) { m.NameNotUsed(records(t, there+" A 192.0.2.1")) }, dns.RcodeYXDomain},
		{"RRset exists", func(m *dns.Msg) { m.RRsetUsed(records(t, there+" A 192.0.2.1")) }, dns.RcodeSuccess},
		{"RRset exists, but does not", func(m *dns.Msg) { m.RRsetUsed(records(t, there+" TXT x")) }, dns.RcodeNXRrset},
		{"RRset does not exist", func(m *dns.Msg) { m.RRsetNotUsed(records(t, there+" TXT x")) }, dns.RcodeSuccess},
		{"RRset does not exist, but does", func(m *dns.Msg) { m.RRsetNotUsed(records(t, there+" A 192.0.2.1")) }, dns.RcodeYXRrset},
		{"RRset is this", func(m *dns.Msg) { m.Used(records(t, there+" A 127.0.0.1")) }, dns.RcodeSuccess},
		{"RRset is another", func(m *dns.Msg) { m.Used(records(t, there+" A 192.0.2.1")) }, dns.RcodeNXRrset},
		{"RRset is more", func(m *dns.Msg) { m.Used(records(t, there+" A 127.0.0.1", there+" A 192.0.2.1")) }, dns.RcodeNXRrset},
		{"outside", func(m *dns.Msg) { m.NameUsed(records(t, "a.example.com. A 192.0.2.1")) }, dns.RcodeNotZone},
	}
	for _, test := range tests {
		update := new(dns.Msg).SetUpdate("example.org.")
		test.condition(update)
		if rcode := send(t, s, update); rcode != test.rcode {
			t.Errorf("%s: %s, want %s", test.what, dns.RcodeToString[rcode], dns.RcodeToString[test.rcode])
		}
	}
}

func TestLog(t *testing.T) {
	w := newWorld(t)
	s := listen(t, w)
	insert(t, s, "example.org.", "_acme-challenge.mx.example.org. 60 TXT one", "elsewhere.example.org. 60 TXT two")
	insert(t, s, "example.com.", "_acme-challenge.example.com. 60 TXT three")
	if w.UpdateCount("example.org") != 1 || w.UpdateCount("") != 2 {
		t.Errorf("%d updates of example.org, %d of all", w.UpdateCount("example.org"), w.UpdateCount(""))
	}
	first := w.Updates()[0]
	if first.Key != keyName || first.Server != s.Address() || len(first.Adds) != 2 || !strings.Contains(first.Adds[0], "one") {
		t.Errorf("logged: %+v", first)
	}
	if left := w.Challenges(); len(left) != 3 {
		t.Errorf("left in the zones: %v", left)
	}
	remove := new(dns.Msg).SetUpdate("example.org.")
	remove.Remove(records(t, "_acme-challenge.mx.example.org. TXT one", "elsewhere.example.org. TXT two"))
	send(t, s, remove)
	if left := w.Challenges(); len(left) != 1 || !slices.Equal(left["_acme-challenge.example.com."], []string{"three"}) {
		t.Errorf("left in the zones: %v", left)
	}
	if got := w.TXTHistory("_acme-challenge.MX.example.org"); !slices.Equal(got, []string{"one"}) {
		t.Errorf("history %q", got)
	}
	ask(t, "tcp", s.Address(), "Mx.example.org", dns.TypeA, false)
	queries := w.Queries()
	if len(queries) != 1 || queries[0].Name != "mx.example.org." || queries[0].UDP || queries[0].RD || queries[0].Type != dns.TypeA {
		t.Errorf("questions: %+v", queries)
	}
	w.ResetLog()
	if len(w.Queries())+len(w.Updates())+len(w.TXTHistory("_acme-challenge.mx.example.org")) != 0 {
		t.Error("the log is not empty after its reset")
	}
}

func TestEditsByHand(t *testing.T) {
	w := newWorld(t)
	if err := w.Add("mx.example.org. A 192.0.2.9"); err != nil {
		t.Fatal(err)
	}
	s := listen(t, w)
	check := func(want ...string) {
		t.Helper()
		if got := brief(ask(t, "udp", s.Address(), "mx.example.org", dns.TypeA, false).Answer); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	check("mx.example.org. A 127.0.0.1", "mx.example.org. A 192.0.2.9")
	if err := w.Replace("mx.example.org. A 192.0.2.10", "mx.example.org. A 192.0.2.11"); err != nil {
		t.Fatal(err)
	}
	check("mx.example.org. A 192.0.2.10", "mx.example.org. A 192.0.2.11")
	if err := w.Remove("mx.example.org", dns.TypeA); err != nil {
		t.Fatal(err)
	}
	check()
	if err := w.Remove("mx.example.org"); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, "udp", s.Address(), "mx.example.org", dns.TypeAAAA, false).Answer; len(got) != 0 {
		t.Errorf("after the name was removed: %v", got)
	}
	if got := w.Serial("example.org"); got != 5 {
		t.Errorf("serial %d after four edits, want 5", got)
	}
}
