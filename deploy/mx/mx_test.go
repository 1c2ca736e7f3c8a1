package mx

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// ours are the addresses of the host of the tests.
var ours = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// world is a name server with one zone.
func world(t *testing.T, records ...string) (*resolve.Resolver, *nameserver.Server) {
	t.Helper()
	w := nameserver.New()
	if err := w.AddZone("example.org.", append([]string{"@ NS ns1.example.org.", "ns1 A 127.0.0.1"}, records...)...); err != nil {
		t.Fatal(err)
	}
	server, err := w.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return resolve.New([]string{server.Address()}), server
}

func said(f Found) (list []string) {
	for _, found := range f.Findings {
		list = append(list, found.ID+" "+string(found.Severity))
	}
	return list
}

func names(f Found) (list []string) {
	for _, n := range f.Names {
		list = append(list, n.Name)
	}
	return list
}

func TestLook(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what    string
		domain  string
		records []string
		names   []string
		unsure  []string
		said    []string
	}{
		{"one host", "example.org", []string{"@ MX 10 mx", "mx A 192.0.2.1"}, []string{"mx.example.org"}, nil, nil},
		{"by its IPv6 address", "example.org", []string{"@ MX 10 mx", "mx A 198.51.100.1", "mx AAAA 2001:db8::1"}, []string{"mx.example.org"}, nil, nil},
		{"upper case and a dot", "Example.ORG.", []string{"@ MX 10 MX.Example.Org.", "mx A 192.0.2.1"}, []string{"mx.example.org"}, nil, nil},
		{"in the order of preference", "example.org", []string{"@ MX 20 b", "@ MX 10 c", "@ MX 10 c", "c A 192.0.2.1", "b A 192.0.2.1"}, []string{"c.example.org", "b.example.org"}, nil, nil},
		{"backup elsewhere", "example.org", []string{"@ MX 10 mx", "@ MX 20 backup", "mx A 192.0.2.1", "backup A 198.51.100.1"}, []string{"mx.example.org"}, nil, []string{"mx-elsewhere ok"}},
		{"none is ours", "example.org", []string{"@ MX 10 mx", "mx A 198.51.100.1"}, nil, nil, []string{"mx-elsewhere ok", "mx-not-ours warning"}},
		{"null MX", "example.org", []string{"@ MX 0 .", "@ A 192.0.2.1"}, nil, nil, []string{"mx-null warning"}},
		{"null MX beside others", "example.org", []string{"@ MX 0 .", "@ MX 10 mx", "mx A 192.0.2.1"}, []string{"mx.example.org"}, nil, []string{"mx-null-beside error"}},
		{"alias", "example.org", []string{"@ MX 10 mail", "mail CNAME host7", "host7 A 192.0.2.1"}, []string{"mail.example.org"}, nil, []string{"mx-alias warning"}},
		{"address", "example.org", []string{"@ MX 10 192.0.2.1.", "@ MX 20 mx", "mx A 192.0.2.1"}, []string{"mx.example.org"}, nil, []string{"mx-address error"}},
		{"underscore", "example.org", []string{"@ MX 10 mx_1", "mx_1 A 192.0.2.1"}, nil, nil, []string{"mx-uncertifiable error"}},
		{"raw bytes", "example.org", []string{`@ MX 10 m\195\164il`, `m\195\164il A 192.0.2.1`}, nil, nil, []string{"mx-uncertifiable error"}},
		{"IDN", "example.org", []string{"@ MX 10 xn--mil-ula", "xn--mil-ula A 192.0.2.1"}, []string{"xn--mil-ula.example.org"}, nil, nil},
		{"implicit", "example.org", []string{"@ A 192.0.2.1"}, []string{"example.org"}, nil, []string{"mx-implicit warning"}},
		{"implicit, elsewhere", "example.org", []string{"@ A 198.51.100.1"}, nil, nil, []string{"mx-implicit warning", "mx-elsewhere ok"}},
		{"neither MX nor address", "example.org", []string{"@ TXT x"}, nil, nil, []string{"mx-none error"}},
		{"no such domain", "gone.example.org", nil, nil, nil, []string{"mail-domain-missing error"}},
		{"a host without address", "example.org", []string{"@ MX 10 mx", "@ MX 20 gone", "mx A 192.0.2.1"}, []string{"mx.example.org"}, nil, []string{"mx-host-missing error"}},
		{"a loop of aliases", "example.org", []string{"@ MX 10 a", "a CNAME b", "b CNAME a"}, nil, []string{"a.example.org"}, []string{"mx-host-unresolvable warning"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			resolver, _ := world(t, tt.records...)
			f := Look(t.Context(), resolver, tt.domain, ours)
			if f.Err != nil || !slices.Equal(names(f), tt.names) || !slices.Equal(f.Unsure, tt.unsure) || !slices.Equal(said(f), tt.said) {
				t.Errorf("names %q, unsure %q, said %q, error %v; findings %+v", names(f), f.Unsure, said(f), f.Err, f.Findings)
			}
			for _, n := range f.Names {
				if n.Domain != f.Domain {
					t.Errorf("%+v of %s", n, f.Domain)
				}
			}
			for _, found := range f.Findings {
				if found.Message == "" || found.Subject != f.Domain || found.Severity != finding.OK && found.Hint == "" {
					t.Errorf("incomplete: %+v", found)
				}
			}
		})
	}
}

// An error about the MX records says nothing about names, and never means that senders use the domain's own address.
func TestErrorsAreNoDenials(t *testing.T) {
	t.Parallel()
	records := []string{"@ MX 10 mx", "@ MX 20 b", "@ A 192.0.2.1", "mx A 192.0.2.1", "b A 192.0.2.1"}
	for rcode, text := range map[int]string{dns.RcodeServerFailure: "SERVFAIL", dns.RcodeRefused: "REFUSED"} {
		resolver, server := world(t, records...)
		server.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
			if request.Question[0].Qtype == dns.TypeMX {
				return new(dns.Msg).SetRcode(request, rcode)
			}
			return reply
		}})
		f := Look(t.Context(), resolver, "example.org", ours)
		if f.Err == nil || len(f.Names) > 0 || len(f.Findings) != 1 || f.Findings[0].ID != "mx-unresolvable" || !strings.Contains(f.Findings[0].Message, text) {
			t.Errorf("%+v", f)
		}
	}
	// One address that answers is enough to know that the host is ours; with none, nothing is known.
	for qtype, want := range map[uint16]string{dns.TypeA: "[] [mx.example.org b.example.org]", dns.TypeAAAA: "[mx.example.org b.example.org] []"} {
		resolver, server := world(t, records...)
		server.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
			if request.Question[0].Qtype == qtype {
				return new(dns.Msg).SetRcode(request, dns.RcodeServerFailure)
			}
			return reply
		}})
		f := Look(t.Context(), resolver, "example.org", ours)
		if got := fmt.Sprint(names(f), f.Unsure); f.Err != nil || got != want {
			t.Errorf("without answers of type %d: %s, want %s", qtype, got, want)
		}
	}
}

// A look ends with its context.
func TestLookEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	resolver, _ := world(t, "@ MX 10 mx")
	if f := Look(ctx, resolver, "example.org", ours); f.Err == nil || len(f.Names) > 0 {
		t.Errorf("%+v", f)
	}
}

// A domain with very many MX hosts costs a bounded number of questions.
func TestManyHosts(t *testing.T) {
	t.Parallel()
	var records []string
	for i := range 120 {
		records = append(records, fmt.Sprintf("@ MX %d h%03d", i, i), fmt.Sprintf("h%03d A 192.0.2.1", i))
	}
	resolver, _ := world(t, records...)
	f := Look(t.Context(), resolver, "example.org", ours)
	if len(f.Names) != mostHosts || f.Names[0].Name != "h000.example.org" || said(f)[0] != "mx-many warning" {
		t.Errorf("%d names, %q", len(f.Names), said(f))
	}
}

func TestSelf(t *testing.T) {
	t.Parallel()
	resolver, server := world(t, "host7 A 192.0.2.1", "other A 198.51.100.1")
	for name, want := range map[string]string{"HOST7.example.org.": "host7.example.org", "other.example.org": "", "gone.example.org": "", "host7": "", "host_7.example.org": ""} {
		if got, err := Self(t.Context(), resolver, name, ours); got != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	server.SetFaults(nameserver.Faults{Edit: func(request, _ *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(request, dns.RcodeServerFailure) }})
	if got, err := Self(t.Context(), resolve.New([]string{server.Address()}), "host7.example.org", ours); got != "" || err == nil {
		t.Errorf("with a resolver that fails: %q, %v", got, err)
	}
}

func TestOwn(t *testing.T) {
	t.Parallel()
	public := netip.MustParseAddr("::ffff:203.0.113.7")
	own, err := Own([]netip.Addr{public})
	if err != nil || !slices.Contains(own, netip.MustParseAddr("203.0.113.7")) {
		t.Errorf("%v, %v", own, err)
	}
	for _, a := range own {
		if a.IsLoopback() || a.IsLinkLocalUnicast() || a.Is4In6() {
			t.Errorf("%v is among the own addresses", a)
		}
	}
}

// The two ways to the addresses of the interfaces agree.
func TestWaysToAddresses(t *testing.T) {
	t.Parallel()
	one, err := byNetlink()
	if err != nil {
		t.Fatal(err)
	}
	two, err := byProc()
	if err != nil {
		t.Fatal(err)
	}
	set := func(list []netip.Addr) []netip.Addr {
		for i := range list {
			list[i] = list[i].Unmap()
		}
		slices.SortFunc(list, netip.Addr.Compare)
		return slices.Compact(list)
	}
	if one, two = set(one), set(two); len(one) == 0 || !slices.Equal(one, two) {
		t.Errorf("%v, %v", one, two)
	}
}

func TestFullName(t *testing.T) {
	t.Parallel()
	for _, tt := range [][3]string{
		{"MX.Example.org.", "", "mx.example.org"},
		{"mx", "127.0.0.1 localhost\n127.0.1.1\tmx.example.org mx # this host\n", "mx.example.org"},
		{"mx", "127.0.1.1 mx MX.example.org", "mx.example.org"},
		{"mx", "127.0.1.1 mx other.example.org", ""},
		{"mx", "# 127.0.1.1 mx.example.org mx", ""},
		{"mx", "", ""},
	} {
		if got := fullName(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%q with %q is %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}
