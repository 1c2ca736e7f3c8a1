package verdict

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/mtasts"
	"mxcert/deploy/starttls"
)

// edit changes the facts about a host that satisfies everybody.
type edit = func(*Facts)

func answer(name, kind string, state resolve.State) resolve.Answer {
	a := resolve.Answer{Name: name, Type: kind, State: state, Final: name, Validator: "127.0.0.1"}
	if state == resolve.Failed || state == resolve.Bogus {
		a.Err = &resolve.Error{Name: name, Type: kind, Server: "127.0.0.1", Reason: "SERVFAIL"}
	}
	return a
}

func mx(state resolve.State, hosts ...string) *resolve.Set[resolve.MX] {
	set := &resolve.Set[resolve.MX]{Answer: answer("example.org", "MX", state)}
	for i, host := range hosts {
		set.Records = append(set.Records, resolve.MX{Host: host, Preference: uint16(10 + 10*i)})
	}
	return set
}

func base(domain string, state resolve.State, records ...resolve.TLSA) Base {
	return Base{Domain: domain, TLSA: resolve.Set[resolve.TLSA]{Answer: answer("_25._tcp."+domain, "TLSA", state), Records: records}}
}

func handshake(name string, ask starttls.KeyType, chain ...*entity) Handshake {
	r := &starttls.Result{Version: 0x0304, Greeting: "mx.example.org ESMTP", Extensions: []string{"SIZE 1000", "REQUIRETLS"}, EHLO: "mx.example.org"}
	for _, e := range chain {
		r.Chain = append(r.Chain, e.Certificate)
	}
	return Handshake{ServerName: name, Ask: ask, Shown: r}
}

// facts are those of a host that satisfies everybody, with changes.
func facts(edits ...edit) Facts {
	f := Facts{
		Route: Route{
			Domain: "example.org", Host: "mx.example.org", Address: netip.MustParseAddr("192.0.2.1"),
			MX:        mx(resolve.Secure, "mx.example.org"),
			Addresses: []resolve.Answer{answer("mx.example.org", "A", resolve.Secure), answer("mx.example.org", "AAAA", resolve.Secure)},
			Bases:     []Base{base("mx.example.org", resolve.Secure, tlsa(3, 1, 1, good))},
			Policy:    &mtasts.Found{Domain: "example.org", ID: "1", Policy: &mtasts.Policy{Mode: mtasts.Enforce, MX: []string{"mx.example.org"}}},
		},
		Port: 25, At: now, Roots: pool(root),
		Handshakes: []Handshake{handshake("mx.example.org", starttls.Any, good, inter)},
	}
	for _, e := range edits {
		e(&f)
	}
	return f
}

func serves(chain ...*entity) edit {
	return func(f *Facts) { f.Handshakes = []Handshake{handshake("mx.example.org", starttls.Any, chain...)} }
}

func also(name string, ask starttls.KeyType, chain ...*entity) edit {
	return func(f *Facts) { f.Handshakes = append(f.Handshakes, handshake(name, ask, chain...)) }
}

func publishes(records ...resolve.TLSA) edit {
	return func(f *Facts) { f.Bases = []Base{base("mx.example.org", resolve.Secure, records...)} }
}

func bases(list ...Base) edit { return func(f *Facts) { f.Bases = list } }

func mxIs(state resolve.State) edit {
	return func(f *Facts) { f.MX = mx(state, "mx.example.org") }
}

func addressIs(state resolve.State) edit {
	return func(f *Facts) {
		f.Addresses = []resolve.Answer{answer("mx.example.org", "A", state), answer("mx.example.org", "AAAA", resolve.Secure)}
	}
}

func policy(mode mtasts.Mode, patterns ...string) edit {
	return func(f *Facts) {
		f.Policy = &mtasts.Found{Domain: "example.org", Policy: &mtasts.Policy{Mode: mode, MX: patterns}}
	}
}

func noPolicy(f *Facts) { f.Policy = &mtasts.Found{Domain: "example.org"} }

func noTLSA(f *Facts) { f.Bases = []Base{base("mx.example.org", resolve.Secure)} }

func host(name string) edit {
	return func(f *Facts) { f.Host = name; f.Handshakes[0].ServerName = name }
}

// row is one case: what is known, what one kind of sender decides, and what is said beside.
type row struct {
	name  string
	edits []edit
	want  string   // result, action, type; "?" is n/a because it was not judged
	say   []string // "id" or "id: words", each in some finding; "-id": in none
}

func checkRows(t *testing.T, kind Kind, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(strings.ReplaceAll(r.name, "/", " "), func(t *testing.T) {
			verdicts, findings := Judge(facts(r.edits...))
			v := verdicts[kind]
			if got := short(v); got != r.want {
				t.Errorf("got %q, want %q: %s", got, r.want, v.Reason)
			}
			sound(t, verdicts, findings)
			for _, say := range r.say {
				said(t, findings, say)
			}
			if !slices.ContainsFunc(r.say, func(s string) bool { return strings.HasPrefix(s, "senders-differ") }) {
				said(t, about(findings, kind), "-senders-differ")
			}
		})
	}
}

func about(findings []finding.Finding, kind Kind) (list []finding.Finding) {
	for _, f := range findings {
		if f.Subject == string(kind) {
			list = append(list, f)
		}
	}
	return list
}

func short(v Verdict) string {
	if v.NotJudged {
		return "?"
	}
	return strings.TrimSpace(string(v.Result) + " " + string(v.Action) + " " + v.Type)
}

func said(t *testing.T, findings []finding.Finding, say string) {
	t.Helper()
	want, not := strings.CutPrefix(say, "-")
	id, words, _ := strings.Cut(want, ": ")
	found := slices.ContainsFunc(findings, func(f finding.Finding) bool {
		return f.ID == id && strings.Contains(f.Message+" "+f.Hint, words)
	})
	if found == not {
		t.Errorf("findings do not fit %q: %+v", say, findings)
	}
}

// sound checks what holds for every verdict: it is complete, fit to show, and does not contradict itself.
func sound(t *testing.T, verdicts map[Kind]Verdict, findings []finding.Finding) {
	t.Helper()
	for _, kind := range Kinds {
		v, ok := verdicts[kind]
		unfit := strings.ContainsFunc(v.Reason, func(r rune) bool { return r < ' ' }) || strings.HasSuffix(v.Reason, ".") || len(v.Reason) > 1200
		switch {
		case !ok || v.Reason == "" || unfit || strings.Contains(v.Reason, "%!"):
			t.Errorf("%s: the reason is not fit to show: %q", kind, v.Reason)
		case v.NotJudged && (v.Result != NotApplicable || v.Action != ""), v.Result == Pass && v.Action == Skip, v.Result == Fail && v.Action == Deliver, !v.NotJudged && v.Result != NotApplicable && v.Action == "":
			t.Errorf("%s: contradicts itself: %+v", kind, v)
		}
	}
	for _, f := range findings {
		if f.Message == "" || f.Hint == "" || f.Subject == "" || strings.ContainsFunc(f.Message+f.Hint, func(r rune) bool { return r < ' ' && r != '\n' }) {
			t.Errorf("finding not fit to show: %+v", f)
		}
	}
}
