package verdict

import (
	"net/netip"
	"strings"
	"testing"

	"mxcert/acme/resolve"
)

var (
	delivers   = pass(Deliver, "it delivers")
	skips      = fail(Skip, typeTrust, "it skips")
	bounces    = fail(Bounce, typeTrust, "it returns")
	inTheClear = fail(ClearText, typeNoTLS, "it is not encrypted")
	asksNot    = notApplicable(Unauthenticated, "it asks for nothing")
	notOffered = notApplicable(Bounce, "it is not offered")
	unknowable = notJudged("nobody knows")
)

// hosts have one address each, the preferences 10, 20, … and the verdict for every kind. A verdict with another one at the same host has the
// same name.
func hosts(list ...[]Verdict) (set resolve.Set[resolve.MX], all []Judged) {
	set.Answer = answer("example.org", "MX", resolve.Secure)
	for i, verdicts := range list {
		name := string(rune('a'+i)) + ".example.org"
		set.Records = append(set.Records, resolve.MX{Host: name, Preference: uint16(10 * (i + 1))})
		for n, v := range verdicts {
			j := Judged{Host: name, Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(10*i + n)}), Verdicts: map[Kind]Verdict{}}
			for _, kind := range Kinds {
				j.Verdicts[kind] = v
			}
			all = append(all, j)
		}
	}
	return set, all
}

func TestDomain(t *testing.T) {
	one := func(v ...Verdict) []Verdict { return v }
	for _, test := range []struct {
		name  string
		hosts [][]Verdict
		want  string
		words string
	}{
		{"one passes", [][]Verdict{one(delivers)}, "pass deliver", "it delivers"},
		{"one fails", [][]Verdict{one(skips)}, "fail skip certificate-not-trusted", "it skips"},
		{"the second passes", [][]Verdict{one(skips), one(delivers)}, "pass deliver", "after 1 address that it skips"},
		{"the first passes", [][]Verdict{one(delivers), one(skips)}, "pass deliver", "it delivers"},
		{"none passes", [][]Verdict{one(skips), one(skips)}, "fail skip certificate-not-trusted", "no host of example.org is left"},
		{"one address passes", [][]Verdict{one(skips, delivers)}, "pass deliver", "it delivers"},
		{"in the clear", [][]Verdict{one(inTheClear), one(delivers)}, "fail clear-text starttls-not-supported", "not encrypted"},
		{"in the clear by chance", [][]Verdict{one(delivers, inTheClear)}, "fail clear-text starttls-not-supported", "not encrypted"},
		{"in the clear at a backup", [][]Verdict{one(delivers), one(inTheClear)}, "pass deliver", "it delivers"},
		{"nothing is asked for", [][]Verdict{one(asksNot)}, "n/a unauthenticated", "asks for nothing"},
		{"fails, then nothing is asked for", [][]Verdict{one(skips), one(asksNot)}, "n/a unauthenticated", "asks for nothing"},
		{"unknown", [][]Verdict{one(unknowable)}, "?", "nobody knows"},
		{"unknown for one reason", [][]Verdict{one(unknowable, unknowable), one(unknowable)}, "?", "nobody knows"},
		{"unknown for several reasons", [][]Verdict{one(unknowable), one(notJudged("it is another"))}, "?", "2 of 2"},
		{"unknown and pass", [][]Verdict{one(unknowable), one(delivers)}, "pass deliver", "cannot judge 1 other address"},
		{"unknown and fail", [][]Verdict{one(unknowable), one(skips)}, "?", "cannot judge 1 of 2 addresses of example.org; the first: nobody knows"},
		{"REQUIRETLS nowhere", [][]Verdict{one(notOffered), one(notOffered)}, "n/a bounce", "not offered"},
		{"REQUIRETLS at the second", [][]Verdict{one(notOffered), one(delivers)}, "pass deliver", "it delivers"},
		{"REQUIRETLS fails", [][]Verdict{one(notOffered), one(bounces)}, "fail bounce certificate-not-trusted", "it returns"},
	} {
		t.Run(test.name, func(t *testing.T) {
			mx, list := hosts(test.hosts...)
			verdicts := Domain("example.org", mx, list)
			sound(t, verdicts, nil)
			for _, kind := range Kinds {
				if v := verdicts[kind]; short(v) != test.want || !strings.Contains(v.Reason, test.words) {
					t.Errorf("%s: got %q (%s), want %q", kind, short(v), v.Reason, test.want)
				}
			}
		})
	}
}

// TestDomainWithoutHosts: an MX that cannot be asked is a failure for everybody, and a null MX is none.
func TestDomainWithoutHosts(t *testing.T) {
	for _, test := range []struct {
		name string
		mx   *resolve.Set[resolve.MX]
		want map[Kind]string
	}{
		{"failed", mx(resolve.Failed), map[Kind]string{Opportunistic: "fail skip", PKIX: "fail skip", DANE: "fail skip dnssec-invalid", MTASTS: "fail skip", RequireTLS: "fail skip"}},
		{"bogus", mx(resolve.Bogus), map[Kind]string{Opportunistic: "fail skip", PKIX: "fail skip", DANE: "fail skip dnssec-invalid", MTASTS: "fail skip", RequireTLS: "fail skip"}},
		{"null MX", mx(resolve.Insecure, ""), map[Kind]string{Opportunistic: "n/a bounce", PKIX: "n/a bounce", DANE: "n/a bounce", MTASTS: "n/a bounce", RequireTLS: "n/a bounce"}},
		{"nothing looked at", mx(resolve.Secure, "mx.example.org"), map[Kind]string{Opportunistic: "?", PKIX: "?", DANE: "?", MTASTS: "?", RequireTLS: "?"}},
	} {
		verdicts := Domain("example.org", *test.mx, nil)
		sound(t, verdicts, nil)
		for kind, want := range test.want {
			if got := short(verdicts[kind]); got != want {
				t.Errorf("%s, %s: got %q, want %q", test.name, kind, got, want)
			}
		}
	}
}

// TestNullMXBesideOthers: the null MX is a fault, and the mail goes to the others.
func TestNullMXBesideOthers(t *testing.T) {
	set, list := hosts([]Verdict{delivers})
	set.Records = append([]resolve.MX{{}}, set.Records...)
	list = append([]Judged{{Verdicts: map[Kind]Verdict{Opportunistic: notApplicable(Bounce, "null")}}}, list...)
	if v := Domain("example.org", set, list)[Opportunistic]; short(v) != "pass deliver" {
		t.Errorf("got %+v", v)
	}
}
