package resolve_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// TestTrust: the word of a resolver counts only if nobody can have changed it, and if it validates.
func TestTrust(t *testing.T) {
	t.Parallel()
	lies := nameserver.Faults{Edit: func(_, reply *dns.Msg) *dns.Msg { reply.AuthenticatedData = true; return reply }}
	unaware := nameserver.Faults{Edit: func(_, reply *dns.Msg) *dns.Msg { reply.AuthenticatedData = false; return reply }}
	fails := nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		if request.Question[0].Qtype != dns.TypeNS {
			reply.Rcode, reply.Answer, reply.Ns = dns.RcodeServerFailure, nil, nil
		}
		return reply
	}}
	own := ownAddress(t)
	for _, tt := range []struct {
		what      string
		loopback  *nameserver.Faults // nil: there is none
		elsewhere *nameserver.Faults // nil: there is none
		trusted   bool               // the one elsewhere
		name      string
		state     resolve.State
		validator string // loopback, elsewhere or ""
	}{
		{what: "on loopback", loopback: &nameserver.Faults{}, name: "mx1.secure.test", state: resolve.Secure, validator: "loopback"},
		{what: "on loopback, not signed", loopback: &nameserver.Faults{}, name: "mx.insecure.test", state: resolve.Insecure, validator: "loopback"},
		{what: "on loopback, without validation", loopback: &unaware, name: "mx1.secure.test", state: resolve.Insecure},
		{what: "elsewhere, with a lie", elsewhere: &lies, name: "mx.insecure.test", state: resolve.Insecure},
		{what: "elsewhere", elsewhere: &nameserver.Faults{}, name: "mx1.secure.test", state: resolve.Insecure},
		{what: "elsewhere, bogus", elsewhere: &nameserver.Faults{}, name: "mx.bogus.test", state: resolve.Bogus},
		{what: "elsewhere, trusted", elsewhere: &nameserver.Faults{}, trusted: true, name: "mx1.secure.test", state: resolve.Secure, validator: "elsewhere"},
		{what: "both", loopback: &nameserver.Faults{}, elsewhere: &lies, name: "mx.insecure.test", state: resolve.Insecure, validator: "loopback"},
		{what: "bogus for the validator", loopback: &nameserver.Faults{}, elsewhere: &nameserver.Faults{Edit: openly}, name: "mx.bogus.test", state: resolve.Bogus, validator: "loopback"},
		{what: "the validator fails", loopback: &fails, elsewhere: &lies, name: "mx1.secure.test", state: resolve.Failed, validator: "loopback"},
		{what: "the validator is silent", loopback: &nameserver.Faults{Dead: true, NoTCP: true}, elsewhere: &lies, name: "mx1.secure.test", state: resolve.Insecure},
		{what: "what does not validate fails", loopback: &nameserver.Faults{Edit: failsAlways}, elsewhere: &nameserver.Faults{}, trusted: true, name: "mx1.secure.test", state: resolve.Secure, validator: "elsewhere"},
		{what: "bogus for one, and another validator has no signature", loopback: &nameserver.Faults{}, elsewhere: &nameserver.Faults{Edit: openly}, trusted: true, name: "mx.bogus.test", state: resolve.Bogus, validator: "loopback"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			w := judged(t)
			addresses := map[string]string{"": ""}
			var servers, trusted []string
			if tt.elsewhere != nil {
				s := listen(t, w, own+":0")
				s.SetFaults(*tt.elsewhere)
				servers, addresses["elsewhere"] = append(servers, s.Address()), s.Address()
				if tt.trusted {
					trusted = append(trusted, s.Address())
				}
			}
			if tt.loopback != nil {
				s := listen(t, w, "127.0.0.1:0")
				s.SetFaults(*tt.loopback)
				servers, addresses["loopback"] = append(servers, s.Address()), s.Address()
			}
			if tt.validator == "loopback" && tt.trusted {
				slices.Reverse(servers)
				trusted = []string{servers[0], servers[1]}
			}
			got := resolve.New(servers).Trust(trusted...).LookIPv4(t.Context(), tt.name)
			if got.State != tt.state || got.Validator != addresses[tt.validator] {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestBogusWithoutCD: a resolver that validates whatever it is asked for says in an extended error what it has found.
func TestBogusWithoutCD(t *testing.T) {
	t.Parallel()
	for code, want := range map[uint16]resolve.State{
		dns.ExtendedErrorCodeDNSBogus: resolve.Bogus, dns.ExtendedErrorCodeSignatureExpired: resolve.Bogus, dns.ExtendedErrorCodeSignatureNotYetValid: resolve.Bogus,
		dns.ExtendedErrorCodeNoReachableAuthority: resolve.Failed, dns.ExtendedErrorCodeDNSKEYMissing: resolve.Failed, dns.ExtendedErrorCodeNetworkError: resolve.Failed,
	} {
		s := listen(t, judged(t), "127.0.0.1:0")
		s.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
			if request.Question[0].Qtype == dns.TypeA {
				reply.Rcode, reply.Answer = dns.RcodeServerFailure, nil
				reply.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: code}}
			}
			return reply
		}})
		if got := ask(s).LookIPv4(t.Context(), "mx1.secure.test"); got.State != want || !strings.Contains(got.Err.Error(), dns.ExtendedErrorCodeToString[code]) {
			t.Errorf("extended error %d: %+v", code, got)
		}
	}
}

// openly answers about bogus data as a resolver that does not validate.
func openly(request, reply *dns.Msg) *dns.Msg {
	if reply.Rcode == dns.RcodeServerFailure {
		reply.Rcode, reply.Answer = dns.RcodeSuccess, records(request.Question[0].Name+" 60 IN A 192.0.2.4")
	}
	return reply
}

func failsAlways(request, reply *dns.Msg) *dns.Msg {
	if request.Question[0].Qtype != dns.TypeNS {
		reply.Rcode = dns.RcodeServerFailure
	}
	reply.AuthenticatedData = false
	return reply
}

// ownAddress returns an address of this host that is not on loopback.
func ownAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() && !prefix.Addr().IsLoopback() {
				return prefix.Addr().String()
			}
		}
	}
	t.Skip("this host has no IPv4 address but loopback")
	return ""
}
