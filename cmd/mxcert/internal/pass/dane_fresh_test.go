package pass

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
	"mxcert/deploy/served"
	"mxcert/deploy/starttls"
)

// An order takes minutes. If the record of the next key is lost meanwhile, the new certificate is not deployed: what counts is how the records
// are when it is deployed.
func TestRecordsAreLookedAtAgainAfterAnOrder(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, publishing, lab.Options{})
	h.pass(report.CodeOK, renew)
	h.steady()
	before, record, next := h.spki(), h.record(), h.remembered().Keys[bundle.EC256].Next
	var once sync.Once
	h.CA.SetWrap(func(handler http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.Finalize {
				once.Do(func() { h.publish(record) })
			}
			handler.ServeHTTP(w, r)
		})
	})
	c := h.run(t.Context(), Options{Roll: &dane.Asked{At: time.Now(), Reason: "a test wants it"}})
	if h.spki() != before || c.Code != report.CodeNotInService || c.Error == nil || c.Error.Kind != kindDANE {
		t.Fatalf("the key %s is in service, and senders know %s only: %d, %+v", h.spki(), before, c.Code, c.Error)
	}
	h.until(patience, "the record is there again, for long enough", func(report.Certificate) bool { return h.spki() == next })
}

// If an alias takes the place of the records, they move to where it leads, whole, and the next roll waits for nothing again.
func TestAnAliasTakesThePlaceOfTheRecords(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, publishing, lab.Options{})
	h.pass(report.CodeOK, renew)
	h.steady()
	h.publish()
	h.check(h.World.Replace(h.owner() + " 2 CNAME _dane.example.org."))
	h.until(patience, "the records are at the end of the alias", func(c report.Certificate) bool {
		return c.TLSA != nil && c.TLSA.State == string(dane.Steady)
	})
	old, next := h.spki(), h.remembered().Keys[bundle.EC256].Next
	h.pass(report.CodeOK, Options{Roll: &dane.Asked{At: time.Now(), Reason: "a test wants it"}})
	if h.spki() != next {
		t.Errorf("the key is %s, want %s", h.spki(), next)
	}
	h.steady()
	for _, o := range h.remembered().Ours {
		if o.SPKI == old {
			t.Errorf("it still believes to have a record of the old key: %+v", o)
		}
	}
}

// The grace of an old key counts from the last handshake with it, also if the pass that made this handshake found nothing else to store.
func TestTheLastHandshakeWithAnOldKeyIsStored(t *testing.T) {
	t.Parallel()
	key := "ab" + unpublished[2:]
	roll := &dane.Roll{Retired: []dane.Retired{{SPKI: key, Last: now()}}}
	before := &tlsa{state: dane.State{Keys: map[bundle.KeyType]*dane.Roll{bundle.EC256: roll}}}
	stored := before.print()
	at := now()
	at.At, at.Up = at.At.Add(10*time.Minute), at.Up+10*time.Minute
	before.state.Observe(dane.Facts{At: at, Types: []bundle.KeyType{bundle.EC256}, AllSeen: true, Serving: map[string]bool{key: true}})
	if before.print() == stored {
		t.Error("the next pass would count from an earlier moment, at which the key was served")
	}
}

// What senders may get at any moment counts, also if the records that are seen ask them for nothing.
func TestRecordsThatWereAddedCountBeside(t *testing.T) {
	t.Parallel()
	o := dane.Owner{Host: "mx.example.org", Port: 25}
	record := dane.Record("ab" + unpublished[2:]).String()
	guard := &tlsa{settings: dane.Settings{Mode: dane.Publish}, owners: []dane.Owner{o}, at: now()}
	guard.state.Memory = dane.Memory{o.Name(): {First: now(), Last: now(), Known: []dane.Cached{{Set: dane.Set{Records: []string{"1 1 1 00"}}, Given: true}}}}
	guard.state.Ours = []dane.Ours{{Owner: o.Name() + ".", For: o.Name(), Record: record}}
	for _, set := range guard.expected().Held(o, guard.settings) {
		if strings.Contains(strings.Join(set.Records, " "), record) {
			return
		}
	}
	t.Error("the records that were added do not count")
}

// One server that says that there are no records does not speak for another one that does not answer: a change of keys waits.
func TestOneServerDoesNotSpeakForAnother(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{Secondaries: 1})
	h.pass(report.CodeOK, renew)
	before := h.spki()
	h.Secondaries[0].SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		if len(request.Question) > 0 && request.Question[0].Qtype == dns.TypeTLSA {
			return nil
		}
		return reply
	}})
	if c := h.run(t.Context(), newKey); c.Code != report.CodeTemporary || h.spki() != before || c.Error.Kind != kindDANEUnknown {
		t.Fatalf("%d, %+v", c.Code, c.Error)
	}
	h.Secondaries[0].SetFaults(nameserver.Faults{})
	if h.pass(report.CodeOK, renew); h.spki() == before {
		t.Error("the key stays although nobody has records")
	}
}

// forgetful are the faults of a resolver that does not know TLSA records yet.
func forgetful() nameserver.Faults {
	return nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		if len(request.Question) > 0 && request.Question[0].Qtype == dns.TypeTLSA && request.RecursionDesired {
			soa, _ := dns.NewRR("example.org. 60 SOA ns1.example.org. hostmaster.example.org. 1 60 60 60 60")
			reply.Answer, reply.Ns = nil, []dns.RR{soa}
		}
		return reply
	}}
}

// A resolver may still remember that there were no records. Before another key is served, the servers are asked.
func TestAResolverDoesNotKnowTheRecordsYet(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]Options{"--new-key": newKey, "rollback": rollback} {
		h := newDANEHost(t, "", lab.Options{})
		h.pass(report.CodeOK, renew)
		h.pass(report.CodeOK, newKey)
		h.Primary.SetFaults(forgetful())
		h.publish(h.record())
		before := h.spki()
		if c := h.run(t.Context(), options); h.spki() != before || c.Error == nil || c.Error.Kind != kindDANE {
			t.Errorf("%s: %d, %+v", name, c.Code, c.Error)
		}
		if c := h.pass(report.CodeOK, atOnce); h.spki() != before {
			t.Errorf("%s: %+v", name, c.Error)
		}
	}
}

// The same if the key changes by itself.
func TestAnotherKeyIsNotServedUnseen(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "", lab.Options{})
	h.pass(report.CodeOK, renew)
	h.Primary.SetFaults(forgetful())
	h.publish(h.record())
	before := h.spki()
	h.edit("    keys: [", "    reuse_key: false\n    keys: [")
	if c := h.run(t.Context(), atOnce); h.spki() != before || c.Error == nil || c.Error.Kind != kindDANE {
		t.Errorf("%d, %+v", c.Code, c.Error)
	}
}

// Names that a look at MX records has found are judged, too: in the pass that finds one, and before a rollback is stored.
func TestFoundNamesPassTheGate(t *testing.T) {
	t.Parallel()
	h := &daneHost{newFound(t, lab.Options{Signed: true}), 2 * time.Second}
	_, port, _ := net.SplitHostPort(h.SMTP.Address())
	h.edit("    keys: [", fmt.Sprintf("    dane: {mode: check, hold: 0s, ports: [%s]}\n    keys: [", port))
	owner := "_" + port + "._tcp." + second + "."
	h.pass(report.CodeOK, renew)
	first := h.record()
	h.check(h.World.Replace(owner + " 2 TLSA " + first))
	if c := h.run(t.Context(), Options{Force: true, NewKey: true}); h.record() != first || c.Error == nil || c.Error.Kind != kindDANE {
		t.Fatalf("a name is found: %d, %+v", c.Code, c.Error)
	}
	h.check(h.World.Remove(owner, typeTLSA))
	h.until(patience, "the key changes", func(c report.Certificate) bool { return h.record() != first })
	h.check(h.World.Replace(owner + " 2 TLSA " + h.record()))
	record := h.stored("record.json")
	if c := h.run(t.Context(), rollback); c.Error == nil || c.Error.Kind != kindDANE || h.stored("record.json") != record {
		t.Errorf("a rollback: %d, %+v", c.Code, c.Error)
	}
}

// A roll that ignores what senders hold, and that the CA keeps waiting, lets nothing else through.
func TestARollThatIgnoresLetsNothingElseThrough(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{})
	h.pass(report.CodeOK, renew)
	h.pass(report.CodeOK, newKey)
	h.publish(h.record())
	before := h.spki()
	h.CA.SetWrap(func(handler http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.NewOrder {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			handler.ServeHTTP(w, r)
		})
	})
	h.run(t.Context(), Options{Roll: &dane.Asked{At: time.Now(), Reason: "a test wants it", Ignore: true}})
	if roll := h.remembered().Keys[bundle.EC256]; roll.Asked == nil || !roll.Asked.Ignore {
		t.Fatalf("%+v", roll)
	}
	if c := h.run(t.Context(), rollback); h.spki() != before || c.Error == nil || c.Error.Kind != kindDANE {
		t.Fatalf("a rollback: %d, %+v", c.Code, c.Error)
	}
	h.CA.SetWrap(nil)
	h.until(patience, "the roll goes on", func(report.Certificate) bool { return h.spki() != before })
}

// An address that shows an ECDSA key, and does not answer in time when it is asked for an RSA key, may still serve an old one.
func TestHalfAnAnswerIsNone(t *testing.T) {
	t.Parallel()
	shown := &starttls.Result{Chain: []*x509.Certificate{{RawSubjectPublicKeyInfo: []byte("a key")}}}
	owners := []dane.Owner{{Host: "mx.example.org", Port: 25}, {Host: "mx.example.org", Port: 25}}
	for kind, want := range map[string]int{starttls.KindKeyTypeNotOffered: 0, starttls.KindConnectionLost: 0, starttls.KindTimeout: 1, starttls.KindTLSUnavailable: 1, starttls.KindNotJudged: 1} {
		for i := range 2 {
			pair := []served.Result{{Probe: served.Probe{Address: "192.0.2.1:25"}, Shown: shown}, {Probe: served.Probe{Address: "192.0.2.1:25"}, Err: shakeError(kind)}}
			if i == 1 {
				slices.Reverse(pair)
			}
			p := &pass{tlsa: &tlsa{serving: map[string]bool{}}}
			if missing := p.judgeProbes(pair, owners, nil); len(missing) != want || len(p.tlsa.serving) != 1 {
				t.Errorf("%s: missing are %q, want %d; serving %v", kind, missing, want, p.tlsa.serving)
			}
		}
	}
}

// shakeError is the kind of an error of a handshake.
type shakeError string

func (e shakeError) Error() string { return string(e) }
func (e shakeError) Kind() string  { return string(e) }
func (e shakeError) Temporary() bool {
	return e != starttls.KindKeyTypeNotOffered && e != starttls.KindNotJudged
}
