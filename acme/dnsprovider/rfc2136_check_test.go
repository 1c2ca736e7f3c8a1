package dnsprovider_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"mxcert/acme/dnsprovider"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// TestCheckChangesNothing: the server has said that it would do it, and has done nothing. What it may refuse is in
// TestUpdateFailures and in package dnsupdate.
func TestCheckChangesNothing(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	if err := w.Add(`_acme-challenge.mx.example.org. TXT "foreign"`); err != nil {
		t.Fatal(err)
	}
	before := [2]uint32{w.Serial("example.org"), w.Serial("example.com")}
	checker, ok := newSolver(t, "rfc2136", environ(s.Address())).(dnsprovider.Checker)
	if !ok {
		t.Fatal("rfc2136 cannot be checked")
	}
	records := []dnsprovider.TXT{record("mx.example.org", ""), record("host7.example.org", ""), record("mail.example.com", "")}
	if err := checker.Check(t.Context(), records); err != nil {
		t.Error(err)
	}
	if after := [2]uint32{w.Serial("example.org"), w.Serial("example.com")}; after != before {
		t.Errorf("serials %v, before %v", after, before)
	}
	if got := values(w, "mx.example.org"); !slices.Equal(got, []string{"foreign"}) {
		t.Errorf("there is %q", got)
	}
	updates := w.Updates()
	if len(updates) != 2 {
		t.Fatalf("%d updates for two zones", len(updates))
	}
	for _, u := range updates {
		if u.Rcode != dns.RcodeNameError || u.Key != keyName || len(u.Adds) > 0 {
			t.Errorf("%+v", u)
		}
	}
}

// TestCheckWithoutPrerequisites: where a server does not know prerequisites, nothing is changed all the same.
func TestCheckWithoutPrerequisites(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	s.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		for _, rr := range request.Ns {
			if rr.Header().Class != dns.ClassNONE || !strings.HasPrefix(rr.(*dns.TXT).Txt[0], "mxcert-check-") {
				t.Errorf("the update is %s", rr)
			}
		}
		reply.Rcode = dns.RcodeSuccess
		return reply
	}})
	if err := newSolver(t, "rfc2136", environ(s.Address())).(dnsprovider.Checker).Check(t.Context(), []dnsprovider.TXT{record("mx.example.org", "")}); err != nil {
		t.Error(err)
	}
	if len(w.Updates()) != 1 {
		t.Errorf("%d updates", len(w.Updates()))
	}
}
