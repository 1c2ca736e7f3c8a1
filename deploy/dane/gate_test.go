package dane

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

const hour = time.Hour

// far is when certificates of the tests expire.
func far() time.Time { return start.Add(90 * day) }

func change(old, next []*x509.Certificate) Change {
	return Change{Owner: mx, Names: []string{mx.Host}, Key: "ec256", Old: [][]*x509.Certificate{old}, New: next}
}

// looked is the memory after one look at some sets.
func looked(s Settings, sets ...Cached) Memory {
	m := Memory{}
	m.note(mx, whole(0, sets...), s)
	return m
}

// TestGateByHand is a host whose records an operator has made: each kind of record, and each kind of change of the certificate.
func TestGateByHand(t *testing.T) {
	t.Parallel()
	p := world()
	old := p.chain("a", p.first, far())
	leaf, issuer := old[0], old[1]
	plans := map[string][]*x509.Certificate{
		"same key":                    p.chain("a", p.first, far()),
		"new key":                     p.chain("b", p.first, far()),
		"other intermediate":          p.chain("a", p.second, far()),
		"other CA":                    p.chain("a", p.other, far()),
		"new key, other intermediate": p.chain("b", p.second, far()),
		"new key, other CA":           p.chain("b", p.other, far()),
	}
	keys := []string{"new key", "new key, other intermediate", "new key, other CA"}
	issuers := []string{"other intermediate", "other CA", "new key, other intermediate", "new key, other CA"}
	all := append([]string{"same key", "new key"}, issuers...)
	both := []string{"new key, other intermediate", "new key, other CA"}
	for name, test := range map[string]struct {
		records []string
		refused []string
		publish []string // combinations
	}{
		"3 1 1":                              {[]string{record(3, 1, 1, leaf)}, keys, []string{"3 1 1"}},
		"3 0 1":                              {[]string{record(3, 0, 1, leaf)}, all, []string{"3 0 1"}},
		"3 1 2":                              {[]string{record(3, 1, 2, leaf)}, keys, []string{"3 1 2"}},
		"3 0 2":                              {[]string{record(3, 0, 2, leaf)}, all, []string{"3 0 2"}},
		"2 1 1":                              {[]string{record(2, 1, 1, issuer)}, issuers, []string{"3 1 1"}},
		"2 0 1":                              {[]string{record(2, 0, 1, issuer)}, issuers, []string{"3 1 1"}},
		"2 0 0":                              {[]string{record(2, 0, 0, issuer)}, issuers, []string{"3 1 1"}},
		"2 1 0":                              {[]string{record(2, 1, 0, issuer)}, issuers, []string{"3 1 1"}},
		"2 0 1 of a root that is not sent":   {[]string{record(2, 0, 1, p.root.certificate)}, nil, nil},
		"2 0 0 of a root that is not sent":   {[]string{record(2, 0, 0, p.root.certificate)}, []string{"other CA", "new key, other CA"}, []string{"3 1 1"}},
		"full key":                           {[]string{record(3, 1, 0, leaf)}, keys, []string{"3 1 0"}},
		"full certificate":                   {[]string{record(3, 0, 0, leaf)}, all, []string{"3 0 0"}},
		"several digests":                    {[]string{record(3, 1, 1, leaf), record(3, 1, 2, leaf)}, keys, []string{"3 1 1", "3 1 2"}},
		"key and certificate":                {[]string{record(3, 1, 1, leaf), record(3, 0, 1, leaf)}, keys, []string{"3 0 1", "3 1 1"}},
		"key and issuer":                     {[]string{record(3, 1, 1, leaf), record(2, 1, 1, issuer)}, both, []string{"3 1 1"}},
		"certificate and issuer":             {[]string{record(3, 0, 1, leaf), record(2, 1, 1, issuer)}, issuers, []string{"3 0 1"}},
		"next is there":                      {[]string{record(3, 1, 1, leaf), record(3, 1, 1, plans["new key"][0])}, nil, nil},
		"next is there with one digest":      {[]string{record(3, 1, 2, leaf), record(3, 1, 1, plans["new key"][0])}, keys, []string{"3 1 2"}},
		"next is there, weaker than a stale": {[]string{record(3, 1, 1, leaf), record(3, 1, 2, issuer), record(3, 1, 1, plans["new key"][0])}, nil, nil},
		"stale":                              {[]string{record(3, 1, 1, issuer)}, nil, nil},
		"stale issuer":                       {[]string{record(2, 1, 1, p.other.certificate)}, nil, nil},
		"stale beside a right one":           {[]string{record(3, 1, 1, issuer), record(3, 1, 1, leaf)}, keys, []string{"3 1 1"}},
		"usages 0 and 1":                     {[]string{record(1, 1, 1, leaf), record(0, 0, 1, issuer)}, nil, nil},
		"a cut digest":                       {[]string{"3 1 1 00ff"}, nil, nil},
		"an unknown digest":                  {[]string{"3 1 9 " + spki("a")}, nil, nil},
		"unusable beside a right one":        {[]string{"3 1 1 00ff", record(3, 1, 1, leaf)}, keys, []string{"3 1 1"}},
		"none":                               {nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for plan, next := range plans {
				m := looked(brief, given(hour, test.records...))
				r := m.Gate([]Change{change(old, next)}, brief, moment(0))
				if refused := slices.Contains(test.refused, plan); refused != (r != nil) {
					t.Errorf("%s is refused: %v, want %v", plan, r, refused)
				} else if refused {
					followed(t, plan, m, r, test.records, change(old, next), test.publish)
				}
			}
		})
	}
}

// followed does what a refusal says: its records are published, beside the present ones or in their place after the hold, and then the plan passes.
func followed(t *testing.T, plan string, m Memory, r *Refusal, present []string, c Change, combinations []string) {
	t.Helper()
	var records, kinds []string
	for _, line := range r.Publish {
		text, ok := strings.CutPrefix(line, "_25._tcp.mx.example.org. 3600 IN TLSA ")
		if !ok {
			t.Errorf("%s: %q is no line of a zone file", plan, line)
			continue
		}
		records, kinds = append(records, text), append(kinds, text[:5])
	}
	if slices.Sort(kinds); !slices.Equal(kinds, combinations) {
		t.Errorf("%s: to publish: %q, want %q", plan, kinds, combinations)
	}
	if r.Unknown || r.Temporary() || r.Kind() != "dane" || !r.Until.IsZero() || strings.HasSuffix(r.Error(), ".") {
		t.Errorf("%s: %+v", plan, r)
	}
	for _, want := range []string{"mxcert tlsa check NAME", "--ignore-dane", records[0], "2h6m after the last server has it"} {
		if !strings.Contains(r.Hint(), want) {
			t.Errorf("%s: the hint lacks %q: %s", plan, want, r.Hint())
		}
	}
	m.note(mx, whole(hour, given(hour, append(slices.Clone(present), records...)...)), brief)
	r = m.Gate([]Change{c}, brief, moment(hour))
	if end := moment(3*hour + 6*time.Minute).At; r == nil || !r.Until.Equal(end) || len(r.Publish) > 0 || !strings.Contains(r.Hint(), end.Format(time.RFC3339)) {
		t.Errorf("%s: just published: %+v", plan, r)
	}
	m.note(mx, whole(4*hour, given(hour, append(slices.Clone(present), records...)...)), brief)
	if r = m.Gate([]Change{c}, brief, moment(4*hour)); r != nil {
		t.Errorf("%s: published and held: %v", plan, r)
	}
}

// TestGateRefusals are the texts of refusals, and cases in which more than one set or chain counts.
func TestGateRefusals(t *testing.T) {
	t.Parallel()
	p := world()
	a, a2, b, c := p.chain("a", p.first, far()), p.chain("a", p.first, far()), p.chain("b", p.first, far()), p.chain("c", p.first, far())
	expired := p.chain("a", p.first, start.Add(-hour))
	rsa := p.chain("rsa", p.first, far())
	ra, rb := record(3, 1, 1, a[0]), record(3, 1, 1, b[0])
	lag := given(hour, ra)
	lag.By = []string{"ns2.example.org [192.0.2.2:53]"}
	down := errors.New("resolver 192.0.2.53 answers SERVFAIL")
	unknown := func(c Change) Change { c.Unknown = down; return c }
	olds := func(next []*x509.Certificate, old ...[]*x509.Certificate) Change {
		return Change{Owner: mx, Names: []string{mx.Host}, Key: "ec256", Old: old, New: next}
	}
	partly := looked(brief, given(hour, ra))
	partly.note(mx, partial(hour, given(hour, ra, rb)), brief)
	held := looked(brief, given(hour, ra))
	held.note(mx, whole(hour, given(hour, rb)), brief)
	removed := looked(brief, given(hour, ra))
	removed.note(mx, whole(hour), brief)
	crowded := looked(brief, given(hour, ra, rb))
	crowded[mx.Name()].Crowded = &Cached{Set: Set{TTL: hour}, Given: true}
	crowded.note(mx, whole(hour, given(hour, ra, rb)), brief)
	expected := looked(brief)
	expected[mx.Name()].Known = []Cached{{Set: Set{Records: []string{ra, rb}, TTL: hour}, Given: true}} // mxcert has just added them
	aliased := Memory{}
	look := whole(0, given(hour, ra))
	look.final = "tlsa.example.net."
	aliased.note(mx, look, brief)
	const senders = "senders that check the TLSA records of _25._tcp.mx.example.org accept the served ec256 certificate and would refuse the new one: no record matches its key"
	for name, test := range map[string]struct {
		m       Memory
		changes []Change
		reason  string // "" if the plan passes
		kind    string
		hint    string
	}{
		"new key":                       {looked(brief, given(hour, ra)), []Change{change(a, b)}, senders, "dane", "publish _25._tcp.mx.example.org. 3600 IN TLSA " + rb + " and keep the present records; mxcert continues once no sender can hold a set without it, which takes 2h6m after the last server has it; mxcert tlsa check NAME shows who has which records; --ignore-dane overrides"},
		"new key behind an alias":       {aliased, []Change{change(a, b)}, senders, "dane", "publish tlsa.example.net. 3600 IN TLSA " + rb},
		"a server lags":                 {looked(brief, given(hour, ra, rb), lag), []Change{change(a, b)}, "ns2.example.org [192.0.2.2:53] still gives TLSA records of _25._tcp.mx.example.org that the new ec256 certificate does not fit as the served one does: no record matches its key", "dane", "update this server"},
		"a server is silent":            {partly, []Change{change(a, b)}, "some server may still give TLSA records of _25._tcp.mx.example.org that the new ec256 certificate does not fit (no record matches its key), because the last look was not complete: ns2.example.org does not answer", "dane", "mxcert tlsa check"},
		"senders hold older records":    {held, []Change{change(a, b)}, "some senders may still hold older TLSA records of _25._tcp.mx.example.org that the new ec256 certificate does not fit as the served one does: no record matches its key", "dane", "wait until 2026-11-01T15:06:00Z: mxcert then continues"},
		"the records were removed":      {removed, []Change{change(a, b)}, "some senders may still hold older TLSA records of _25._tcp.mx.example.org that the new ec256 certificate does not fit as the served one does: no record matches its key", "dane", "wait until 2026-11-01T15:06:00Z"},
		"back to the old key":           {held, []Change{change(b, a)}, senders, "dane", ra},
		"nothing is served":             {looked(brief, given(hour, ra)), []Change{olds(b)}, "", "", ""},
		"nothing is served, no look":    {Memory{}, []Change{unknown(olds(b))}, "", "", ""},
		"one endpoint is right":         {looked(brief, given(hour, ra)), []Change{olds(b, c, a)}, senders, "dane", rb},
		"no endpoint is right":          {looked(brief, given(hour, ra)), []Change{olds(b, c, c)}, "", "", ""},
		"all become right":              {looked(brief, given(hour, ra)), []Change{olds(a2, c, a)}, "", "", ""},
		"another key type is added":     {looked(brief, given(hour, ra)), []Change{change(a, a2), {Owner: mx, Key: "rsa2048", New: rsa}}, "senders that check the TLSA records of _25._tcp.mx.example.org accept the served rsa2048 certificate", "dane", record(3, 1, 1, rsa[0])},
		"another owner's chains":        {looked(brief, given(hour, ra)), []Change{{Owner: Owner{Host: "other.example.org", Port: 25}, Old: [][]*x509.Certificate{a}, New: a2}, olds(b)}, "", "", ""},
		"same key, lookup failed":       {looked(brief, given(hour, ra)), []Change{unknown(change(a, a2))}, "", "", ""},
		"same key, never looked":        {Memory{}, []Change{unknown(change(a, a2))}, "", "", ""},
		"same key, 3 0 1 is remembered": {looked(brief, given(hour, record(3, 0, 1, a[0]))), []Change{unknown(change(a, a2))}, senders, "dane", record(3, 0, 1, a2[0])},
		"same key, 2 1 1 is remembered": {looked(brief, given(hour, record(2, 1, 1, a[1]))), []Change{unknown(change(a, p.chain("a", p.other, far())))}, "senders that check the TLSA records of _25._tcp.mx.example.org accept the served ec256 certificate and would refuse the new one: no record matches an issuer that is sent with it", "dane", "a record 3 1 1 names the key and does not depend on the issuer"},
		"new key, lookup failed":        {looked(brief, given(hour, ra, rb)), []Change{unknown(change(a, b))}, "the ec256 key is not changed, because nobody knows which TLSA records of _25._tcp.mx.example.org senders hold: resolver 192.0.2.53 answers SERVFAIL", "dane-unknown", "mxcert tries again at the next pass"},
		"new key, never looked":         {Memory{}, []Change{change(a, b)}, "the ec256 key is not changed, because nobody knows which TLSA records of _25._tcp.mx.example.org senders hold: mxcert has not looked at them yet", "dane-unknown", "mxcert tries again"},
		"new key, look not complete":    {func() Memory { m := Memory{}; m.note(mx, partial(0), brief); return m }(), []Change{change(a, b)}, "the ec256 key is not changed, because nobody knows which TLSA records of _25._tcp.mx.example.org senders hold: ns2.example.org does not answer", "dane-unknown", "mxcert tries again"},
		"new key, too many sets":        {crowded, []Change{change(a, b)}, "the ec256 key is not changed, because nobody knows which TLSA records of _25._tcp.mx.example.org senders hold: there were more different sets than mxcert remembers", "dane-unknown", "wait until 2026-11-01T15:06:00Z"},
		"same key, too many sets":       {crowded, []Change{change(a, a2)}, "", "", ""},
		"records may appear":            {expected, []Change{change(a, c)}, "senders may get TLSA records of _25._tcp.mx.example.org at any moment that the new ec256 certificate does not fit as the served one does: no record matches its key", "dane", record(3, 1, 1, c[0])},
		"expired, 2 1 1":                {looked(brief, given(hour, record(2, 1, 1, a[1]))), []Change{change(expired, p.chain("a", p.other, far()))}, "", "", ""},
		"expired, 3 1 1":                {looked(brief, given(hour, ra)), []Change{change(expired, b)}, senders, "dane", rb},
	} {
		t.Run(name, func(t *testing.T) {
			r := test.m.Gate(test.changes, brief, moment(hour))
			switch {
			case r == nil && test.reason == "":
			case r == nil || test.reason == "":
				t.Errorf("refused: %v, want %q", r, test.reason)
			case !strings.HasPrefix(r.Error(), test.reason) || r.Kind() != test.kind || !strings.Contains(r.Hint(), test.hint) || r.Temporary() != (test.kind == "dane-unknown"):
				t.Errorf("%s (%s)\n%s\nwant %s (%s)\n%s", r.Error(), r.Kind(), r.Hint(), test.reason, test.kind, test.hint)
			}
		})
	}
}

// TestGateDoesNotBelieveAClock has a host whose clock was set back before the time of its certificates. Senders have the right time.
func TestGateDoesNotBelieveAClock(t *testing.T) {
	t.Parallel()
	p := world()
	a, other, a2 := p.chain("a", p.first, far()), p.chain("a", p.other, far()), p.chain("a", p.first, far())
	now := moment(0)
	m := Memory{}
	now.At = now.At.Add(-3000 * day)
	m.note(mx, seen{at: now, sets: []Cached{given(hour, record(2, 1, 1, a[1]))}}, brief)
	if r := m.Gate([]Change{change(a, other)}, brief, now); r == nil {
		t.Error("another issuer is accepted, because the served certificate seems not to be valid yet")
	}
	if r := m.Gate([]Change{change(a, a2)}, brief, now); r != nil {
		t.Errorf("the same issuer is refused, because the new certificate seems not to be valid yet: %v", r)
	}
	now.At, now.Outside = now.At.Add(9000*day), start
	if r := m.Gate([]Change{change(a, other)}, brief, now); r == nil {
		t.Error("another issuer is accepted, because the served certificate seems to have expired, although an outside clock says that it has not")
	}
}

// TestGateJoins has several changes that are refused.
func TestGateJoins(t *testing.T) {
	t.Parallel()
	p := world()
	a, b, rsa := p.chain("a", p.first, far()), p.chain("b", p.first, far()), p.chain("rsa", p.first, far())
	submission := Owner{Host: mx.Host, Port: 587}
	m := looked(brief, given(hour, record(3, 1, 1, a[0])))
	m.note(submission, whole(0, given(2*hour, record(3, 1, 2, a[0]))), brief)
	second := change(a, rsa)
	second.Owner, second.Key = submission, "rsa2048"
	first := change(a, b)
	r := m.Gate([]Change{first, second, first}, brief, moment(0))
	want := []string{"_25._tcp.mx.example.org. 3600 IN TLSA " + record(3, 1, 1, b[0]), "_587._tcp.mx.example.org. 7200 IN TLSA " + record(3, 1, 2, rsa[0])}
	if r == nil || !slices.Equal(r.Publish, want) || r.Owner != mx || r.Key != "ec256" || !strings.Contains(r.Hint(), "4h10m") {
		t.Errorf("%+v\n%s", r, r.Hint())
	}
	// What is certain counts more than what is not known.
	second.Unknown, first.Unknown = errors.New("SERVFAIL"), errors.New("SERVFAIL")
	delete(m, submission.Name())
	if r := m.Gate([]Change{second, first}, brief, moment(0)); r == nil || r.Unknown || r.Owner != mx || !slices.Equal(r.Publish, want[:1]) {
		t.Errorf("%+v", r)
	}
	if r := m.Gate([]Change{second}, brief, moment(0)); r == nil || !r.Unknown {
		t.Errorf("%+v", r)
	}
	r.Name = "it's mine"
	if !strings.Contains(r.Hint(), `mxcert tlsa check 'it'\''s mine' shows`) {
		t.Errorf("%s", r.Hint())
	}
}
