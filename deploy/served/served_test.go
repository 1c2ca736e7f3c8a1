package served

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/port"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/deploy/starttls"
)

// endpoint is a mail server with the files that it reads.
type endpoint struct {
	*smtpd.Server
	t    *testing.T
	dir  string
	keys []bundle.KeyType
}

func newEndpoint(t *testing.T, options smtpd.Options, keys ...bundle.KeyType) *endpoint {
	t.Helper()
	e := &endpoint{t: t, dir: t.TempDir(), keys: keys}
	for _, key := range keys {
		options.Pairs = append(options.Pairs, smtpd.Pair{Certificate: filepath.Join(e.dir, string(key)+".pem")})
	}
	server, err := smtpd.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	e.Server = server
	t.Cleanup(func() { _ = server.Close() })
	return e
}

// put writes a certificate with its key where the server reads it.
func (e *endpoint) put(b *bundle.Bundle) {
	e.t.Helper()
	if err := os.WriteFile(filepath.Join(e.dir, string(b.KeyType())+".pem"), b.CombinedPEM(), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// probes are those for bundles, in the order of the server's keys.
func (e *endpoint) probes(bundles ...*bundle.Bundle) []Probe {
	return Probes([]string{e.Address()}, "mx.example.org", e.keys, bundles, false)
}

func sign(t *testing.T, keyType bundle.KeyType) *bundle.Bundle {
	t.Helper()
	key, err := keyType.Generate()
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, DNSNames: []string{"mx.example.org"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.New(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every endpoint is asked for every certificate that there is.
func TestProbes(t *testing.T) {
	t.Parallel()
	ec, rsa := sign(t, bundle.EC256), sign(t, bundle.RSA2048)
	for _, tt := range []struct {
		what      string
		endpoints []string
		keys      []bundle.KeyType
		bundles   []*bundle.Bundle
		many      bool
		want      []Probe
	}{
		{"one certificate: the server chooses", []string{"a:25"}, []bundle.KeyType{bundle.RSA2048}, []*bundle.Bundle{rsa}, false,
			[]Probe{{Address: "a:25", ServerName: "mx", Key: "rsa2048", Ask: starttls.Any, Want: rsa, Times: 1}}},
		{"two key types, two endpoints", []string{"a:25", "b:993"}, []bundle.KeyType{bundle.EC256, bundle.RSA2048}, []*bundle.Bundle{ec, rsa}, false, []Probe{
			{Address: "a:25", ServerName: "mx", Key: "ec256", Ask: starttls.ECDSA, Want: ec, Times: 1}, {Address: "a:25", ServerName: "mx", Key: "rsa2048", Ask: starttls.RSA, Want: rsa, Times: 1},
			{Address: "b:993", ServerName: "mx", Key: "ec256", Ask: starttls.ECDSA, Want: ec, Times: 1}, {Address: "b:993", ServerName: "mx", Key: "rsa2048", Ask: starttls.RSA, Want: rsa, Times: 1}}},
		{"one of two is not issued", []string{"a:25"}, []bundle.KeyType{bundle.EC256, bundle.RSA2048}, []*bundle.Bundle{nil, rsa}, false,
			[]Probe{{Address: "a:25", ServerName: "mx", Key: "rsa2048", Ask: starttls.RSA, Want: rsa, Times: 1}}},
		{"a server of many processes", []string{"a:25"}, []bundle.KeyType{bundle.EC384}, []*bundle.Bundle{ec}, true,
			[]Probe{{Address: "a:25", ServerName: "mx", Key: "ec384", Ask: starttls.Any, Want: ec, Times: timesOfMany}}},
		{"no endpoint", nil, []bundle.KeyType{bundle.EC256}, []*bundle.Bundle{ec}, false, nil},
	} {
		if got := Probes(tt.endpoints, "mx", tt.keys, tt.bundles, tt.many); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.what, got, tt.want)
		}
	}
}

// What one look shows, and what follows from it for a pass.
func TestLook(t *testing.T) {
	t.Parallel()
	wanted, other := sign(t, bundle.EC256), sign(t, bundle.EC256)
	closed := port.Address(t)
	for _, tt := range []struct {
		what                  string
		shows                 *bundle.Bundle
		faults                smtpd.Faults
		address               string
		kind                  string // of the error for a pass that wants the certificate; "" for success
		another               bool   // proves that another certificate is served
		reloadable, tlsBroken bool
	}{
		{what: "the wanted certificate", shows: wanted},
		{what: "another one", shows: other, kind: "not-served", another: true, reloadable: true},
		{what: "files that cannot be loaded", kind: starttls.KindTLSUnavailable, reloadable: true, tlsBroken: true},
		{what: "no STARTTLS", shows: wanted, faults: smtpd.Faults{NoStartTLS: true}, kind: starttls.KindSTARTTLSNotSupported, reloadable: true},
		{what: "the handshake is cut", shows: wanted, faults: smtpd.Faults{DropAt: smtpd.Handshake}, kind: "connection-lost"},
		{what: "the greeting is a refusal", shows: wanted, faults: smtpd.Faults{Replies: map[smtpd.Step]string{smtpd.Greeting: "554 no\r\n"}}, kind: "rejected"},
		{what: "a closed port", address: closed, kind: "connection-refused"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(t, smtpd.Options{}, bundle.EC256)
			if tt.shows != nil {
				e.put(tt.shows)
			}
			e.SetFaults(tt.faults)
			probes := e.probes(wanted)
			if tt.address != "" {
				probes[0].Address = tt.address
			}
			r := Look(t.Context(), probes)[0]
			if r.Address != probes[0].Address || r.Matches != (tt.kind == "") || Matching(r) != r.Matches || Another(r) != tt.another || All([]Result{r}) != r.Matches {
				t.Errorf("%+v", r)
			}
			serial := ""
			if r.Err == nil {
				serial = tt.shows.Serial()
			}
			if r.Serial != serial || (r.Shown == nil) != (r.Err != nil) {
				t.Errorf("serial %q, want %q; %+v", r.Serial, serial, r)
			}
			if got := Reloadable([]Result{r}); got != tt.reloadable {
				t.Errorf("a reload may help: %v; %v", got, r.Err)
			}
			if got := Unavailable([]Result{r}); got != tt.tlsBroken {
				t.Errorf("454: %v; %v", got, r.Err)
			}
			problem, ok := errors.AsType[*Error](Problems([]Result{r}, Matching))
			if ok != (tt.kind != "") || ok && (problem.Kind() != tt.kind || !strings.Contains(problem.Error(), r.Address) || problem.Hint() == "" && tt.kind != "rejected") {
				t.Errorf("%+v", problem)
			}
		})
	}
}

// Of several results each has its say, in the order of the probes.
func TestProblems(t *testing.T) {
	t.Parallel()
	good := Result{Probe: Probe{Address: "a:25"}, Serial: "01", Matches: true}
	old := Result{Probe: Probe{Address: "b:25"}, Serial: "02"}
	away := Result{Probe: Probe{Address: "c:25"}, Err: errors.New("c:25 is away")}
	all := []Result{good, old, away}
	if err := Problems(all, Matching); err == nil || err.Error() != "b:25 shows another certificate (serial 02)\nc:25 is away" {
		t.Errorf("%v", err)
	}
	if err := Problems(all, Another); err == nil || err.Error() != "a:25 shows the certificate with serial 01\nc:25 is away" {
		t.Errorf("the way back: %v", err)
	}
	if Problems([]Result{good}, Matching) != nil || Problems(nil, Matching) != nil || !All(nil) || All(all) || !Reloadable(all) || Reloadable([]Result{good, away}) || Unavailable(all) {
		t.Error("the sum of several results is wrong")
	}
	for _, tt := range []struct{ address, servers, want string }{
		{"127.0.0.1:25", "", ""}, {"127.0.0.1:25", "files", ""}, {"127.0.0.1:25", "exim", "exim4"}, {"[::1]:465", "postfix dovecot", "postconf"},
		{"[::1]:993", "postfix dovecot", "doveconf"}, {"127.0.0.1:143", "exim dovecot", "doveconf"}, {"127.0.0.1:2525", "postfix dovecot", "postconf doveconf"}, {"127.0.0.1:587", "dovecot", "doveconf"},
	} {
		var named []string
		for _, program := range []string{"exim4", "postconf", "doveconf"} {
			if strings.Contains((&Error{Result: Result{Probe: Probe{Address: tt.address}}, servers: strings.Fields(tt.servers)}).Hint(), program) {
				named = append(named, program)
			}
		}
		if got := strings.Join(named, " "); got != tt.want {
			t.Errorf("the hint about %s of %q names %q, want %q", tt.address, tt.servers, got, tt.want)
		}
	}
	if e := (&Error{Result: old}); e.Kind() != "not-served" || !strings.Contains(e.Hint(), "does the mail server read the configured paths?") {
		t.Errorf("%s, %s", e.Kind(), e.Hint())
	}
	if e := (&Error{Result: away}); e.Kind() != "not-served" {
		t.Errorf("a plain error: %s", e.Kind())
	}
}

// Of two key types each is asked for, and each has its own certificate.
func TestTwoKeyTypes(t *testing.T) {
	t.Parallel()
	ec, rsa := sign(t, bundle.EC256), sign(t, bundle.RSA2048)
	e := newEndpoint(t, smtpd.Options{}, bundle.EC256, bundle.RSA2048)
	e.put(ec)
	e.put(rsa)
	results := Look(t.Context(), e.probes(ec, rsa))
	if len(results) != 2 || !All(results) || results[0].Serial != ec.Serial() || results[1].Serial != rsa.Serial() {
		t.Errorf("%+v", results)
	}
	if results := Look(t.Context(), e.probes(ec, sign(t, bundle.RSA2048))); !results[0].Matches || results[1].Matches {
		t.Errorf("an old RSA certificate: %+v", results)
	}
	// Nothing is known: the serial number is shown all the same.
	if r := Look(t.Context(), []Probe{{Address: e.Address(), ServerName: "mx.example.org", Ask: starttls.RSA}})[0]; r.Matches || r.Serial != rsa.Serial() {
		t.Errorf("%+v", r)
	}
}

// Await waits for a server that comes round, and gives up when it does not.
func TestAwait(t *testing.T) {
	t.Parallel()
	// The pauses double: what is left of the patience at the end is less than the next one.
	const patience = 800 * time.Millisecond
	wanted, other := sign(t, bundle.EC256), sign(t, bundle.EC256)
	for _, tt := range []struct {
		what      string
		before    func(*endpoint)
		after     func(*endpoint) // 300 ms later
		satisfied func(Result) bool
		ok        bool
		least     time.Duration
	}{
		{"at once", func(e *endpoint) { e.put(wanted) }, nil, Matching, true, 0},
		{"the server notices the files", func(e *endpoint) { e.put(other) }, func(e *endpoint) { e.put(wanted) }, Matching, true, 300 * time.Millisecond},
		{"454 for a moment", func(*endpoint) {}, func(e *endpoint) { e.put(wanted) }, Matching, true, 300 * time.Millisecond},
		{"the port is closed for a moment", func(e *endpoint) {
			e.put(wanted)
			e.SetFaults(smtpd.Faults{DropAt: smtpd.Greeting})
		}, func(e *endpoint) { e.SetFaults(smtpd.Faults{}) }, Matching, true, 300 * time.Millisecond},
		{"another certificate", func(e *endpoint) { e.put(other) }, nil, Matching, false, (patience - firstPause) / 2},
		{"the way back", func(e *endpoint) { e.put(wanted) }, func(e *endpoint) { e.put(other) }, Another, true, 300 * time.Millisecond},
		{"no way back", func(e *endpoint) { e.put(wanted) }, nil, Another, false, (patience - firstPause) / 2},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(t, smtpd.Options{}, bundle.EC256)
			tt.before(e)
			began := time.Now() // before the timer starts
			if tt.after != nil {
				timer := time.AfterFunc(300*time.Millisecond, func() { tt.after(e) })
				t.Cleanup(func() { timer.Stop() })
			}
			patience := patience
			if tt.ok {
				patience = time.Minute
			}
			results := Await(t.Context(), e.probes(wanted), patience, time.Minute, tt.satisfied)
			took := time.Since(began)
			if len(results) != 1 || tt.satisfied(results[0]) != tt.ok || took < tt.least || took > 30*time.Second {
				t.Errorf("after %s: %+v", took, results)
			}
		})
	}
}

// A server that delays its greeting longer than there is patience for repeating is waited for.
func TestAwaitSlowServer(t *testing.T) {
	t.Parallel()
	wanted := sign(t, bundle.EC256)
	e := newEndpoint(t, smtpd.Options{}, bundle.EC256)
	e.put(wanted)
	e.SetFaults(smtpd.Faults{GreetingDelay: time.Second})
	if results := Await(t.Context(), e.probes(wanted), 100*time.Millisecond, time.Minute, Matching); !All(results) {
		t.Errorf("%+v", results[0].Err)
	}
	if results := Await(t.Context(), e.probes(wanted), 100*time.Millisecond, 300*time.Millisecond, Matching); All(results) {
		t.Error("it is waited for beyond the limit")
	}
}

// A stop ends the waiting at once.
func TestAwaitIsStopped(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, smtpd.Options{}, bundle.EC256)
	e.put(sign(t, bundle.EC256))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	began := time.Now()
	if results := Await(ctx, e.probes(sign(t, bundle.EC256)), time.Minute, time.Minute, Matching); All(results) || time.Since(began) > 30*time.Second {
		t.Errorf("after %s: %+v", time.Since(began), results)
	}
}

// Of a server with many processes several answers in a row count.
func TestAwaitManyProcesses(t *testing.T) {
	t.Parallel()
	wanted := sign(t, bundle.EC256)
	e := newEndpoint(t, smtpd.Options{}, bundle.EC256)
	e.put(wanted)
	probes := Probes([]string{e.Address()}, "mx.example.org", e.keys, []*bundle.Bundle{wanted}, true)
	if results := Await(t.Context(), probes, time.Minute, time.Minute, Matching); !All(results) || e.Count() != timesOfMany {
		t.Errorf("%d handshakes: %+v", e.Count(), results)
	}
	if Look(t.Context(), probes); e.Count() != timesOfMany+1 {
		t.Errorf("a look made %d handshakes", e.Count()-timesOfMany)
	}
}
