package dnsupdate_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"mxcert/acme/dnsupdate"
	"mxcert/cmd/mxcert-lab/nameserver"
)

func value(n byte) string { return "3 1 1 " + hash(n) }

// TestTLSARecords one change after another: each says what must be there, and a server that holds something else changes nothing.
func TestTLSARecords(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	c := newClient(t, environ(s.Address()))
	for _, tt := range []struct {
		what                 string
		present, remove, add []string
		kind                 string
		want                 string
	}{
		{"add", nil, nil, []string{value(0xaa)}, "", "aa"},
		{"add the same and another, in upper case and with blanks", nil, nil, []string{"3 1 1 " + strings.ToUpper(hash(0xaa)), "3 1 1  " + hash(0xbb)[:32] + " " + hash(0xbb)[32:]}, "", "aa bb"},
		{"remove what is there", []string{value(0xbb), value(0xaa)}, []string{value(0xaa)}, nil, "", "bb"},
		{"remove if something else is there", []string{value(0xaa)}, []string{value(0xbb)}, nil, "dns-condition", "bb"},
		{"remove if there is more", []string{value(0xaa), value(0xbb)}, []string{value(0xbb)}, nil, "dns-condition", "bb"},
		{"no record", nil, nil, []string{"3 1 1"}, "dns-config", "bb"},
		{"no number", nil, nil, []string{"3 256 1 00"}, "dns-config", "bb"},
		{"not in hexadecimal", nil, nil, []string{"3 1 1 xy"}, "dns-config", "bb"},
	} {
		err := c.ChangeTLSA(t.Context(), "example.org.", owner, tt.present, tt.remove, tt.add, 60)
		if e, failed := errors.AsType[*dnsupdate.Error](err); failed != (tt.kind != "") || failed && e.Kind() != tt.kind || !failed && err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
		if got := held(t, s); got != tt.want {
			t.Errorf("%s: there is %q", tt.what, got)
		}
		found, err := c.TLSA(t.Context(), "example.org.", owner)
		var digits []string
		for _, r := range found.Records {
			digits = append(digits, strings.TrimPrefix(r, "3 1 1 ")[:2])
		}
		slices.Sort(digits)
		if err != nil || strings.Join(digits, " ") != tt.want || found.TTL != 60 || found.Alias != "" {
			t.Errorf("%s: the server says %+v, %v", tt.what, found, err)
		}
	}
	if err := w.Add("_25._tcp.alias.example.org. CNAME " + owner); err != nil {
		t.Fatal(err)
	}
	const alias = "_25._tcp.alias.example.org."
	found, err := c.TLSA(t.Context(), "example.org.", alias)
	if err != nil || found.Alias != owner || len(found.Records) > 0 {
		t.Errorf("an alias: %+v, %v", found, err)
	}
	// Without the condition, the server says NOERROR and does nothing.
	if err := c.Send(t.Context(), dnsupdate.Update{Zone: "example.org.", Add: []dns.RR{rr(t, alias+tlsa+hash(0xcc))}}); err != nil {
		t.Errorf("this server does not swallow updates: %v", err)
	}
	err = c.ChangeTLSA(t.Context(), "example.org.", alias, nil, nil, []string{value(0xcc)}, 60)
	if e, ok := errors.AsType[*dnsupdate.Error](err); !ok || e.Kind() != "dns-condition" {
		t.Errorf("an update at an alias: %v", err)
	}
	if err := c.ProbeTLSA(t.Context(), "example.org.", owner); err != nil {
		t.Error(err)
	}
}

// TestAnswersOfNoUse: what is not a signed answer of the zone's primary is never "no records".
func TestAnswersOfNoUse(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	if err := w.Add(owner+tlsa+hash(0xaa), "delegated.example.org. NS ns.elsewhere.test."); err != nil {
		t.Fatal(err)
	}
	failing := func(f nameserver.Faults) string {
		s := listen(t, w)
		s.SetFaults(f)
		return s.Address()
	}
	other := strings.Replace(secret, secret[:4], "AAAA", 1)
	for _, tt := range []struct {
		what, name, says, kind string
		env                    map[string]string
		temporary              bool
	}{
		{"a delegation", "_25._tcp.mx.delegated.example.org.", "is not authoritative for", "dns-update", environ(s.Address()), false},
		{"another zone", "_25._tcp.mx.example.net.", "", "dns-update", environ(s.Address()), false},
		{"a cache", owner, "is not authoritative for", "dns-update", environ(failing(nameserver.Faults{NoAA: true})), false},
		{"refused", owner, "REFUSED", "dns-update", environ(failing(nameserver.Faults{Rcode: dns.RcodeRefused})), false},
		{"server failure", owner, "SERVFAIL", "dns-update", environ(failing(nameserver.Faults{Rcode: dns.RcodeServerFailure})), true},
		{"a wrong secret", owner, "BADSIG", "tsig", environ(s.Address(), "TSIG_SECRET", other), false},
		{"dead", owner, "no answer", "dns-unreachable", environ(failing(nameserver.Faults{Dead: true})), true},
		{"not signed", owner, "not signed", "dns-update", environ(unsignedAnswers(t, s.Address())), false},
	} {
		found, err := newClient(t, tt.env).TLSA(t.Context(), "example.org.", tt.name)
		e, ok := errors.AsType[*dnsupdate.Error](err)
		if !ok || len(found.Records) > 0 || !strings.Contains(e.Error(), tt.says) || e.Kind() != tt.kind || e.Temporary() != tt.temporary || e.Hint() == "" || strings.Contains(e.Error()+e.Hint(), tt.env["DNSUPDATE_TSIG_SECRET"]) {
			t.Errorf("%s: %+v, %v; %+v", tt.what, found, err, e)
		}
	}
}

// unsignedAnswers passes questions on without their signature, and the answers as they are.
func unsignedAnswers(t *testing.T, server string) string {
	t.Helper()
	started := make(chan string, 1)
	front := &dns.Server{Addr: "127.0.0.1:0", Net: "tcp", Handler: dns.HandlerFunc(func(w dns.ResponseWriter, request *dns.Msg) {
		request.Extra = nil
		if answer, err := dns.Exchange(request, server); err == nil {
			_ = w.WriteMsg(answer)
		}
	})}
	front.NotifyStartedFunc = func() { started <- front.Listener.Addr().String() }
	go func() { _ = front.ListenAndServe() }()
	t.Cleanup(func() { _ = front.Shutdown() })
	return <-started
}
