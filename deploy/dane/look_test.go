package dane_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/deploy/dane"
)

const key1, key2 = "3 1 1 01", "3 1 1 02"

func record(t testing.TB, text string) resolve.TLSA {
	t.Helper()
	r, err := resolve.ParseTLSA(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestLookAlongAliases follows aliases of every kind from the owner to the records.
func TestLookAlongAliases(t *testing.T) {
	t.Parallel()
	const (
		here = "_25._tcp.mx.example.org"
		far  = "dane.other.test"
	)
	for _, tt := range []struct {
		what    string
		records []string
		steps   string
		sets    string
		place   string // "zone name", or a part of the error
	}{
		{what: "no record", steps: here, sets: "5s", place: "example.org. " + ownName},
		{what: "records", records: []string{ownName + " 3600 TLSA " + key2, ownName + " 3600 TLSA " + key1}, steps: here, sets: "1h0m0s 3 1 1 01+3 1 1 02", place: "example.org. " + ownName},
		{what: "an alias", records: []string{ownName + " 7200 CNAME dane.example.org.", "dane.example.org. 60 TLSA " + key1},
			steps: here + " > dane.example.org", sets: "2h0m0s 3 1 1 01", place: "example.org. dane.example.org."},
		{what: "an alias of the host's tree", records: []string{"mx.example.org. CNAME host.example.org."}, steps: here, sets: "5s", place: "example.org. " + ownName},
		{what: "an alias into another zone", records: []string{ownName + " 60 CNAME " + far + ".", far + ". 1800 TLSA " + key1},
			steps: here + " > " + far, sets: "30m0s 3 1 1 01", place: "other.test. " + far + "."},
		{what: "an alias to nothing", records: []string{ownName + " 900 CNAME " + far + "."}, steps: here + " > " + far, sets: "15m0s", place: "other.test. " + far + "."},
		{what: "an alias of a wildcard", records: []string{"*.mx.example.org. 120 CNAME dane.example.org.", "dane.example.org. 30 TLSA " + key1},
			steps: here + " > dane.example.org", sets: "2m0s 3 1 1 01", place: "example.org. dane.example.org."},
		{what: "records of a wildcard", records: []string{"*._tcp.mx.example.org. 30 TLSA " + key1}, steps: here, sets: "30s 3 1 1 01", place: "those of a wildcard"},
		{what: "a zone cut at _tcp", records: []string{"_25._tcp.cut.example.org. 45 TLSA " + key1, ownName + " 50 CNAME _25._tcp.cut.example.org."},
			steps: here + " > _25._tcp.cut.example.org", sets: "50s 3 1 1 01", place: "_tcp.cut.example.org. _25._tcp.cut.example.org."},
		{what: "ten aliases", records: append(chain(9), "a10.example.org. 60 TLSA "+key1), steps: here + " > a1.example.org > a2.example.org > a3.example.org > a4.example.org > a5.example.org > a6.example.org > a7.example.org > a8.example.org > a9.example.org > a10.example.org",
			sets: "1m0s 3 1 1 01", place: "example.org. a10.example.org."},
		{what: "eleven aliases", records: chain(10), place: "more than 10 CNAME records"},
		{what: "a loop", records: []string{ownName + " CNAME other.example.org.", "other.example.org. CNAME " + ownName}, place: "form a loop"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2, "other.test", "_tcp.cut.example.org")
			if len(tt.records) > 0 {
				w.check(w.Add(tt.records...))
			}
			v := w.look(dane.Settings{})
			place, err := dane.Locate(t.Context(), w.ask(), v)
			if tt.steps == "" {
				if v.Err == nil || !strings.Contains(v.Err.Error(), tt.place) || v.Fault() == "" || err == nil {
					t.Fatalf("error %v, fault %q, place %v", v.Err, v.Fault(), err)
				}
				return
			}
			if v.Fault() != "" || steps(v) != tt.steps || sets(v) != tt.sets || !v.Signed() || v.Unvalidated() {
				t.Errorf("steps %q, sets %q, fault %q, signed %v", steps(v), sets(v), v.Fault(), v.Signed())
			}
			if until := time.Until(v.SignedUntil()); until < 13*24*time.Hour || until > 15*24*time.Hour {
				t.Errorf("signed until %s", v.SignedUntil())
			}
			if ok, missing := v.Everywhere(record(t, key1)); ok != strings.Contains(tt.sets, key1) || ok != (len(missing) == 0) {
				t.Errorf("everywhere: %v, %q", ok, missing)
			}
			if got := place.Zone + " " + place.Name; got != tt.place && (err == nil || !strings.Contains(err.Error(), tt.place)) {
				t.Errorf("place %q, %v, want %q", got, err, tt.place)
			}
			if err == nil && place.Primary != "ns1."+place.Zone {
				t.Errorf("primary %q", place.Primary)
			}
		})
	}
}

// chain is the owner with a number of aliases behind it.
func chain(n int) []string {
	lines := []string{ownName + " CNAME a1.example.org."}
	for i := 1; i <= n; i++ {
		lines = append(lines, fmt.Sprintf("a%d.example.org. CNAME a%d.example.org.", i, i+1))
	}
	return lines
}

// TestServersThatDiffer: one of three servers has a fault, and then does not count.
func TestServersThatDiffer(t *testing.T) {
	t.Parallel()
	past := time.Now().Add(-time.Hour)
	for _, tt := range []struct {
		what   string
		faults nameserver.Faults
		fault  string // of the look
		sets   string
		misses bool // the new record
	}{
		{what: "none", sets: "1m0s 3 1 1 01+3 1 1 02"},
		{what: "it lags", faults: nameserver.Faults{AsOf: time.Unix(1, 0)}, sets: "1h0m0s 3 1 1 01, 1m0s 3 1 1 01+3 1 1 02", misses: true},
		{what: "it answers unsigned", faults: nameserver.Faults{Unsigned: true}, fault: "without signatures", sets: "1m0s 3 1 1 01+3 1 1 02", misses: true},
		{what: "its signatures are bad", faults: nameserver.Faults{BadSignatures: true}, fault: "do not fit", sets: "1m0s 3 1 1 01+3 1 1 02", misses: true},
		{what: "its signatures have expired", faults: nameserver.Faults{SignedUntil: past}, fault: "expired at ", sets: "1m0s 3 1 1 01+3 1 1 02", misses: true},
		{what: "it is lame", faults: nameserver.Faults{Lame: true}, fault: "REFUSED", sets: "1m0s 3 1 1 01+3 1 1 02", misses: true},
		{what: "it is silent", faults: nameserver.Faults{Dead: true, NoTCP: true}, fault: "no answer", sets: "1m0s 3 1 1 01+3 1 1 02", misses: true},
		{what: "it fails", faults: nameserver.Faults{Rcode: dns.RcodeServerFailure}, fault: "SERVFAIL", sets: "1m0s 3 1 1 01+3 1 1 02", misses: true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			w := &world{TB: t, World: nameserver.New()}
			w.check(w.AddZone(".", "@ NS ns1.example.org."))
			w.check(w.AddZone("example.org", "@ NS ns1", "@ NS ns2", "@ NS ns3", "ns1 A 127.0.0.11", "ns2 A 127.0.0.12", "ns3 A 127.0.0.13", ownName+" 3600 TLSA "+key1))
			for _, zone := range []string{".", "example.org"} {
				w.check(w.Sign(zone, nameserver.Signing{}))
			}
			w.check(w.Replace(ownName+" TLSA "+key1, ownName+" TLSA "+key2))
			for i := range 3 {
				w.servers = append(w.servers, w.listen(fmt.Sprintf("127.0.0.%d:0", i+11), "example.org"))
			}
			w.resolver = w.listen("127.0.0.1:0")
			w.servers[1].SetFaults(tt.faults)
			v := w.look(dane.Settings{})
			if fault := v.Fault(); (fault == "") != (tt.fault == "") || !strings.Contains(fault, tt.fault) || tt.fault != "" && !strings.Contains(fault, "ns2.example.org [127.0.0.12:") || sets(v) != tt.sets {
				t.Errorf("fault %q, sets %q", fault, sets(v))
			}
			ok, missing := v.Everywhere(record(t, key2))
			if ok == tt.misses || tt.misses && (len(missing) != 1 || !strings.Contains(missing[0], "127.0.0.12")) {
				t.Errorf("everywhere: %v, %q", ok, missing)
			}
			for _, name := range []string{"NS2.example.org.", "127.0.0.12", w.servers[1].Address()} {
				v := w.look(dane.Settings{Ignore: []string{name}})
				if fault := v.Fault(); fault != "" || sets(v) != tt.sets {
					t.Errorf("without %s: fault %q, sets %q", name, fault, sets(v))
				}
				if ok, missing := v.Everywhere(record(t, key2)); !ok {
					t.Errorf("without %s, it is missing at %q", name, missing)
				}
				if !slices.Equal(v.Steps[0].Ignored, []bool{false, true, false}) {
					t.Errorf("ignored: %v", v.Steps[0].Ignored)
				}
			}
		})
	}
}

// TestNobodyCounts: a look in which all servers are ignored has seen nothing.
func TestNobodyCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.check(w.Add(ownName + " TLSA " + key1))
	v := w.look(dane.Settings{Ignore: []string{"ns1.example.org"}})
	if ok, _ := v.Everywhere(record(t, key1)); ok || !strings.Contains(v.Fault(), "dane.ignore_servers names all") {
		t.Errorf("everywhere %v, fault %q", ok, v.Fault())
	}
}

// TestSecondChance: a server that loses a question is asked again before it counts as silent.
func TestSecondChance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.check(w.Add(ownName + " TLSA " + key1))
	w.servers[1].SetFaults(nameserver.Faults{Dead: true, NoTCP: true})
	time.AfterFunc(time.Second, func() { w.servers[1].SetFaults(nameserver.Faults{NoTCP: true}) })
	if v := w.look(dane.Settings{}); v.Fault() != "" {
		t.Errorf("fault %q", v.Fault())
	}
}

// TestTrust: what a resolver says about the zone.
func TestTrust(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what                string
		change              func(*world)
		err, fault          string // parts
		signed, unvalidated bool
		sets                string
	}{
		{what: "signed", signed: true, sets: "1m0s 3 1 1 01"},
		{what: "not signed", change: func(w *world) { w.check(w.SetTrust("example.org", nameserver.Insecure)) }, sets: "1m0s 3 1 1 01"},
		{what: "nobody validates", change: func(w *world) {
			w.check(w.SetTrust("example.org", nameserver.Insecure))
			w.check(w.SetTrust(".", nameserver.Insecure))
		}, unvalidated: true, sets: "1m0s 3 1 1 01"},
		{what: "bogus", change: func(w *world) { w.check(w.SetTrust("example.org", nameserver.Bogus)) }, err: "DNSSEC: ", fault: "is bogus"},
		{what: "expired", change: func(w *world) {
			w.check(w.Sign("example.org", nameserver.Signing{Until: time.Now().Add(-time.Minute)}))
		}, err: "DNSSEC: ", fault: "is bogus"},
		{what: "bogus where the alias leads", change: func(w *world) {
			w.check(w.Replace("_25._tcp.mx.example.org. TLSA " + key1))
			w.check(w.Remove("_25._tcp.mx.example.org"))
			w.check(w.Add(ownName + " CNAME dane.other.test."))
			w.check(w.SetTrust("other.test", nameserver.Bogus))
		}, err: "DNSSEC: ", fault: "is bogus"},
		{what: "the alias leads to a zone that is not signed", change: func(w *world) {
			w.check(w.Remove("_25._tcp.mx.example.org"))
			w.check(w.Add(ownName+" CNAME dane.other.test.", "dane.other.test. TLSA "+key1))
			w.check(w.SetTrust("other.test", nameserver.Insecure))
		}, sets: "1m0s 3 1 1 01"},
		{what: "the resolver fails", change: func(w *world) {
			w.resolver.SetFaults(nameserver.Faults{Rcode: dns.RcodeServerFailure})
		}, err: "SERVFAIL", fault: "SERVFAIL"},
		{what: "no resolver", change: func(w *world) { w.check(w.resolver.Close()) }, err: "refused", fault: "refused"},
		{what: "the keys cannot be asked for", change: func(w *world) {
			w.resolver.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
				if request.Question[0].Qtype == dns.TypeDNSKEY {
					reply.Rcode, reply.Answer, reply.Ns = dns.RcodeServerFailure, nil, nil
				}
				return reply
			}})
		}, fault: "the keys of the zone example.org are not known", signed: true, sets: "1m0s 3 1 1 01"},
		{what: "an address of a server cannot be asked for", change: func(w *world) {
			w.resolver.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
				if request.Question[0].Qtype == dns.TypeAAAA {
					reply.Rcode, reply.Answer, reply.Ns = dns.RcodeServerFailure, nil, nil
				}
				return reply
			}})
		}, fault: "the addresses of the name server ns1.example.org could not be looked up", signed: true, sets: "1m0s 3 1 1 01"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, "other.test")
			w.check(w.Add(ownName + " TLSA " + key1))
			if tt.change != nil {
				tt.change(w)
			}
			v := w.look(dane.Settings{})
			if (v.Err == nil) != (tt.err == "") || v.Err != nil && !strings.Contains(v.Err.Error(), tt.err) {
				t.Errorf("error %v", v.Err)
			}
			if fault := v.Fault(); (fault == "") != (tt.fault == "") || !strings.Contains(fault, tt.fault) {
				t.Errorf("fault %q", fault)
			}
			if v.Signed() != tt.signed || v.Unvalidated() != tt.unvalidated || sets(v) != tt.sets {
				t.Errorf("signed %v, unvalidated %v, sets %q", v.Signed(), v.Unvalidated(), sets(v))
			}
			if ok, _ := v.Everywhere(record(t, key1)); ok && tt.err != "" {
				t.Error("an error is everywhere")
			}
			want := dane.Present
			if tt.sets == "" {
				want = dane.Unclear
			}
			owners := []dane.Owner{owner, {Host: "none.example.org", Port: 25}}
			got := dane.Presences(t.Context(), w.ask(), owners)
			if absent := got[1]; got[0] != want || want == dane.Present && absent != dane.Absent || want == dane.Unclear && tt.what != "bogus where the alias leads" && absent != dane.Unclear {
				t.Errorf("presences: %v", got)
			}
		})
	}
}

// TestSerials: people see which server lags.
func TestSerials(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	v := w.look(dane.Settings{})
	if v.Steps[0].Serials != nil {
		t.Error("an ordinary look asks for serials")
	}
	w.check(w.Add(ownName + " TLSA " + key1))
	w.servers[1].SetFaults(nameserver.Faults{AsOf: time.Unix(1, 0)})
	v.AskSerials(t.Context(), w.ask())
	if got := v.Steps[0].Serials; len(got) != 2 || got[0].Serial != 2 || got[1].Serial != 1 || got[0].Server != v.Steps[0].Served.Answers[0].Server {
		t.Errorf("serials %+v", got)
	}
}

// TestZoneCut: the records have a zone of their own, with servers of its own.
func TestZoneCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, "_tcp.mx.example.org")
	w.check(w.Add(ownName + " TLSA " + key1))
	v := w.look(dane.Settings{})
	if v.Fault() != "" || v.Steps[0].Served.Zone != "_tcp.mx.example.org." || sets(v) != "1m0s 3 1 1 01" {
		t.Errorf("zone %s, fault %q, sets %q", v.Steps[0].Served.Zone, v.Fault(), sets(v))
	}
	place, err := dane.Locate(t.Context(), w.ask(), v)
	if err != nil || place != (dane.Place{Zone: "_tcp.mx.example.org.", Name: ownName, Primary: "ns1._tcp.mx.example.org."}) {
		t.Errorf("place %+v, %v", place, err)
	}
}

// TestWildcardWithoutSignatures: no signature says that the records are those of a wildcard, and they must not be hidden either.
func TestWildcardWithoutSignatures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.check(w.Add("*._tcp.mx.example.org. TLSA "+key1, "_25._tcp.own.example.org. TLSA "+key1))
	w.servers[0].SetFaults(nameserver.Faults{Unsigned: true})
	if place, err := dane.Locate(t.Context(), w.ask(), w.look(dane.Settings{})); err == nil || !strings.Contains(err.Error(), "those of a wildcard") {
		t.Errorf("place %+v, %v", place, err)
	}
	own := dane.Look(t.Context(), w.ask(), dane.Owner{Host: "own.example.org", Port: 25}, dane.Settings{}, state.Instant{})
	if place, err := dane.Locate(t.Context(), w.ask(), own); err != nil || place.Name != "_25._tcp.own.example.org." {
		t.Errorf("place %+v, %v", place, err)
	}
}

// TestIgnoredServerLeadsAside: where only an ignored server leads is seen, and counts for nothing.
func TestIgnoredServerLeadsAside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, "other.test")
	w.check(w.Add(ownName+" TLSA "+key1, "dane.other.test. TLSA "+key2))
	for target, want := range map[string]string{
		"dane.other.test.":         "1m0s 3 1 1 01, 1m0s 3 1 1 02",
		"nothing.nowhere.":         "1m0s 3 1 1 01", // it is in no zone
		"_25._tcp.mx.example.org.": "1m0s 3 1 1 01", // a loop
	} {
		w.servers[1].SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
			if request.Question[0].Name == ownName {
				reply.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: ownName, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: 60}, Target: target}}
			}
			return reply
		}})
		v := w.look(dane.Settings{Ignore: []string{"127.0.0.12"}})
		if v.Err != nil || v.Fault() != "" || steps(v) != "_25._tcp.mx.example.org" || sets(v) != want {
			t.Errorf("%s: error %v, fault %q, steps %s, sets %q", target, v.Err, v.Fault(), steps(v), sets(v))
		}
		if ok, missing := v.Everywhere(record(t, key1)); !ok {
			t.Errorf("%s: missing at %q", target, missing)
		}
		if target == "dane.other.test." {
			if v := w.look(dane.Settings{}); v.Fault() == "" || v.Err != nil || len(v.Steps) != 2 {
				t.Errorf("if it counts: error %v, fault %q, steps %s", v.Err, v.Fault(), steps(v))
			}
		}
	}
}

// TestIgnoredServerWithoutAddress: a server that is being retired may have lost its name.
func TestIgnoredServerWithoutAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.check(w.Add("example.org. NS ns.lost.example.org."))
	w.resolver.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		if request.Question[0].Name == "ns.lost.example.org." {
			reply.Rcode, reply.Answer, reply.Ns = dns.RcodeServerFailure, nil, nil
		}
		return reply
	}})
	if v := w.look(dane.Settings{}); !strings.Contains(v.Fault(), "ns.lost.example.org could not be looked up") {
		t.Errorf("fault %q", v.Fault())
	}
	if v := w.look(dane.Settings{Ignore: []string{"ns.lost.example.org"}}); v.Fault() != "" {
		t.Errorf("ignored: fault %q", v.Fault())
	}
}

// TestServersThatLeadAnywhere: a server that has another alias for each question cannot keep a look going.
func TestServersThatLeadAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.check(w.Add("*.any.example.org. TLSA " + key1))
	for i, s := range w.servers {
		asked := 0
		s.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
			if name := request.Question[0].Name; request.Question[0].Qtype == dns.TypeTLSA {
				asked++
				reply.Rcode, reply.Ns = dns.RcodeSuccess, nil
				reply.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: 60}, Target: fmt.Sprintf("x%d-%d.any.example.org.", i, asked)}}
			}
			return reply
		}})
	}
	for _, settings := range []dane.Settings{{}, {Ignore: []string{"127.0.0.12", "127.0.0.13"}}, {Ignore: []string{"127.0.0.11", "127.0.0.12", "127.0.0.13"}}} {
		w.ResetLog()
		v := w.look(settings)
		if n := len(w.Queries()); v.Fault() == "" || n > 400 || len(v.Sets()) > 0 {
			t.Errorf("ignoring %q: fault %q after %d questions, sets %q", settings.Ignore, v.Fault(), n, sets(v))
		}
	}
}

// TestParentThatIsNotHeard: the zone above may name a server that nobody has looked at.
func TestParentThatIsNotHeard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.check(w.AddZone("org", "@ NS a.nic", "a.nic A 127.0.0.99"))
	w.check(w.Add(ownName + " TLSA " + key1))
	if v := w.look(dane.Settings{}); !strings.Contains(v.Fault(), "the zone above does not say which it names") || sets(v) != "1m0s 3 1 1 01" {
		t.Errorf("fault %q, sets %q", v.Fault(), sets(v))
	}
}

// TestSilentServerOnALongWay: a server that swallows everything does not use up the time of a pass, although it is asked at each step, twice.
func TestSilentServerOnALongWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.check(w.Add(ownName+" CNAME dane.example.org.", "dane.example.org. TLSA "+key1))
	w.servers[1].SetFaults(nameserver.Faults{Dead: true})
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	v := dane.Look(ctx, w.ask(), owner, dane.Settings{}, state.Instant{At: time.Now()})
	if v.Err != nil || !strings.Contains(v.Fault(), "no answer") || sets(v) != "1m0s 3 1 1 01" {
		t.Errorf("error %v, fault %q, sets %q", v.Err, v.Fault(), sets(v))
	}
}
