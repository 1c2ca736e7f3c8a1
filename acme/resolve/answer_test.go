package resolve

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/miekg/dns"
)

func TestSystemServers(t *testing.T) {
	for content, want := range map[string][]string{
		"nameserver 192.0.2.1\nnameserver 2001:db8::1\n": {"192.0.2.1:53", "[2001:db8::1]:53"},
		"search example.org\n":                           {"127.0.0.1:53"},
	} {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := systemServers(path); !slices.Equal(got, want) {
			t.Errorf("%q: %q", content, got)
		}
	}
	if got := systemServers("/nonexistent"); !slices.Equal(got, []string{"127.0.0.1:53"}) {
		t.Errorf("no file: %q", got)
	}
	if r := New(nil); len(r.Servers()) == 0 {
		t.Error("no server at all")
	}
}

func TestUnreachable(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENETUNREACH, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT} {
		if !unreachable(&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", errno)}) {
			t.Errorf("%v: a host without IPv6 says so", errno)
		}
	}
	for _, err := range []error{syscall.ECONNREFUSED, os.ErrDeadlineExceeded, errors.New("x"), nil} {
		if unreachable(err) {
			t.Errorf("%v: the server is at fault, not the route", err)
		}
	}
}

// FuzzAnswer gives what a name server may send to everything that reads it.
func FuzzAnswer(f *testing.F) {
	const owner = "_acme-challenge.mx.example.org."
	question := new(dns.Msg).SetQuestion(owner, dns.TypeSOA)
	for _, lines := range [][]string{
		nil,
		{"example.org. 5 IN SOA ns1.example.org. h. 1 2 3 4 5"},
		{owner + " 5 IN CNAME x.example.net.", "x.example.net. 5 IN CNAME " + owner, "net. 5 IN SOA . . 1 2 3 4 5"},
		{owner + ` 5 IN TXT "a" "b"`, ". 5 IN SOA . . 1 2 3 4 5"},
		{"sub.example.org. 5 IN NS ns1.example.org."},
	} {
		answer := new(dns.Msg).SetReply(question)
		for _, line := range lines {
			rr, err := dns.NewRR(line)
			if err != nil {
				f.Fatal(err)
			}
			answer.Answer, answer.Ns = append(answer.Answer, rr), append(answer.Ns, rr)
		}
		raw, err := answer.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		answer := new(dns.Msg)
		if answer.Unpack(raw) != nil {
			return
		}
		if answersTo(question, answer) && !answer.Response {
			t.Error("a question is taken for an answer")
		}
		seen := map[string]bool{}
		if end := followAliases(answer, owner, seen); end != owner && end != "" && !seen[end] {
			t.Errorf("%q was never seen", end)
		}
		if place, ok := placeIn(answer, owner); ok && (place.Name != owner || !dns.IsSubDomain(place.Zone, owner) || place.Zone == "") {
			t.Errorf("%s is not in zone %q", owner, place.Zone)
		}
		for _, value := range txtValues(answer, owner) {
			if len(value) > 1<<18 { // four characters an octet at most
				t.Errorf("a value of %d bytes", len(value))
			}
		}
		_ = questionError(question, "192.0.2.1:53", answer, nil).Error()
	})
}
