package doctor

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mxcert/acme"
	accounts "mxcert/acme/account"
	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/deploy/served"
	"mxcert/deploy/starttls"

	"mxcert/cmd/mxcert/internal/report"
)

// hinted is an error with a hint and a kind.
type hinted struct{ text, hint, kind string }

func (e hinted) Error() string { return e.text }
func (e hinted) Hint() string  { return e.hint }
func (e hinted) Kind() string  { return e.kind }

// one returns the only finding, which must be of a severity and say a text, in message or hint. What is not well has a hint.
func one(t *testing.T, what string, found []finding.Finding, severity finding.Severity, says string) {
	t.Helper()
	if len(found) != 1 || found[0].Severity != severity || !strings.Contains(found[0].Subject+" "+found[0].Message+" "+found[0].Hint, says) || severity != finding.OK && found[0].Hint == "" {
		t.Errorf("%s: %+v, want one that is %q and says %q", what, found, severity, says)
	}
}

// Each part of an error is one finding, once, with its own hint or that of the test.
func TestFaults(t *testing.T) {
	t.Parallel()
	if got := faults(nil, "x"); got != nil {
		t.Errorf("no error: %+v", got)
	}
	a, b := hinted{"a\nsecond line", "do a", ""}, errors.New("b")
	got := faults(errors.Join(a, errors.Join(b, a), fmt.Errorf("around: %w", a)), "do it")
	want := []finding.Finding{bad("a; second line").Next("do a"), bad("b").Next("do it"), bad("around: a; second line").Next("do a")}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestOrWell(t *testing.T) {
	t.Parallel()
	one(t, "nothing found", orWell(nil, "%d hooks", 2), finding.OK, "2 hooks")
	one(t, "something found", orWell([]finding.Finding{doubtful("x").Next("y")}, "all is well"), finding.Warning, "x")
}

// The state directory before the first renewal: it can be made, or it cannot.
func TestStateThatIsMissing(t *testing.T) {
	t.Parallel()
	h := desert(t)
	d := h.doctor()
	one(t, "no directory yet", d.state(t.Context()), finding.OK, "does not exist yet")
	if _, err := os.Lstat(h.Path("state")); !os.IsNotExist(err) {
		t.Error("the directory was made")
	}
	h.edit("/state\n", "/a/b/state\n")
	one(t, "nor those above it", h.doctor().state(t.Context()), finding.OK, "does not exist yet")
	h.open()
	d = h.doctor()
	var found []finding.Finding
	asOther(t, func() { found = d.state(context.Background()) })
	one(t, "another user", found, finding.Error, "cannot be created in "+h.Directory)
}

// The state directory in use.
func TestState(t *testing.T) {
	t.Parallel()
	h := desert(t)
	_, err := state.Open(disk.Open(h.Path("state")))
	h.check(err)
	d := h.doctor()
	if room := roomIn(h.Path("state")); room == nil { // otherwise this host has no room for tests
		one(t, "an empty store", d.state(t.Context()), finding.OK, "is in order")
	}
	if got := roomIn(h.Path("missing")); got != nil {
		t.Errorf("room in a directory that does not exist: %+v", got)
	}
	h.check(os.WriteFile(h.Path("state", "journal", "gone.1.json"), []byte(`{"version":1}`), 0o600))
	if found := d.state(t.Context()); !h.says(found, finding.Warning, "TXT records of an earlier order may still exist, or an order is under way now (gone)") {
		t.Errorf("a record that may remain: %+v", found)
	}
	h.open()
	var found []finding.Finding
	asOther(t, func() { found = d.state(context.Background()) })
	if !h.says(found, finding.Error, "run mxcert as root") {
		t.Errorf("another user: %+v", found)
	}
	h.check(os.Chmod(h.Path("state"), 0o755)) // readable, not writable
	asOther(t, func() { found = d.state(context.Background()) })
	if !h.says(found, finding.Error, "cannot be written to: "+unix.EACCES.Error()) {
		t.Errorf("another user who may look: %+v", found)
	}
}

// open lets other users enter the directory.
func (h *host) open() {
	h.t.Helper()
	for _, dir := range []string{h.Directory, filepath.Dir(h.Directory)} {
		h.check(os.Chmod(dir, 0o755))
	}
}

// says reports whether one of the findings says so.
func (h *host) says(found []finding.Finding, severity finding.Severity, text string) bool {
	var list checks
	for _, f := range found {
		f.ID = "x"
		list = append(list, Check{Finding: f})
	}
	return list.has("x", severity, text)
}

// Who renews here, and whether it works with the file as it is.
func TestDaemonCheck(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	d := desert(t).doctor()
	for _, tt := range []struct {
		daemon   *report.Daemon
		severity finding.Severity
		says     string
	}{
		{nil, finding.OK, "no daemon runs here"},
		{&report.Daemon{PID: 7, Version: testRelease, Started: at}, finding.OK, "running since 2026-05-01 12:00 UTC (process 7)"},
		{&report.Daemon{PID: 7, Version: "0.1.0", Started: at}, finding.Warning, "systemctl restart mxcert"},
		{&report.Daemon{PID: 7, Version: testRelease, ConfigError: "bad", ConfigErrorAt: &at}, finding.Warning, "found the configuration bad at 2026-05-01 12:00 UTC"},
	} {
		d.Daemon = tt.daemon
		one(t, fmt.Sprintf("%+v", tt.daemon), d.daemon(t.Context()), tt.severity, tt.says)
	}
}

// Hooks that run, hooks that are refused, and files that somebody may take for hooks.
func TestHooks(t *testing.T) {
	t.Parallel()
	h := desert(t)
	put := func(name string, mode os.FileMode) {
		h.check(os.MkdirAll(h.Path("hooks", name[:strings.Index(name, "/")]), 0o755))
		h.check(os.WriteFile(h.Path("hooks", name), []byte("#!/bin/sh\n"), 0o600))
		h.check(os.Chmod(h.Path("hooks", name), mode))
	}
	d := h.doctor()
	one(t, "no directory", d.hooks(t.Context()), finding.OK, "0 hooks in")
	put("pre.d/10-a", 0o755)
	put("deploy.d/10-b", 0o755)
	put("deploy.d/README", 0o644)
	put("deploy.d/30-c.bak", 0o644)
	found := d.hooks(t.Context())
	if !h.says(found, finding.Warning, "README is not run: it is not executable") {
		t.Errorf("a hook that is not executable: %+v", found)
	}
	h.check(os.Remove(h.Path("hooks", "deploy.d", "README")))
	h.check(os.Remove(h.Path("hooks", "deploy.d", "30-c.bak")))
	one(t, "two hooks", d.hooks(t.Context()), finding.OK, "2 hooks in "+h.Path("hooks"))
	put("fail.d/10-open", 0o777)
	one(t, "a hook that everybody may change", d.hooks(t.Context()), finding.Error, "fail.d/10-open")
	h.check(os.RemoveAll(h.Path("hooks", "fail.d")))
	h.check(os.WriteFile(h.Path("hooks", "post.d"), nil, 0o600))
	one(t, "a file instead of a directory", d.hooks(t.Context()), finding.Error, "post.d")
	d.Runner.Host.Certificates = nil
	if got := d.hooks(t.Context()); got != nil {
		t.Errorf("without certificates: %+v", got)
	}
}

// The rights of the service concern the file that the service reads.
func TestRights(t *testing.T) {
	t.Parallel()
	h := desert(t)
	h.edit("reload: never", "unit: exim4.service")
	if got := h.doctor().rights(t.Context()); got != nil {
		t.Errorf("another file: %+v", got)
	}
}

// What the CA makes of the account decides whether an order works.
func TestAccountCheck(t *testing.T) {
	t.Parallel()
	h := desert(t)
	plain := h.doctor()
	h.edit("acme: {", `acme: {eab: {kid: "kid-7", hmac_key: "env:MAC"}, `)
	bound := h.doctor()
	const url, terms = "https://127.0.0.1:1/account/1", "https://127.0.0.1:1/terms"
	for _, tt := range []struct {
		what     string
		doctor   *Doctor
		eab      bool
		info     accounts.Info
		severity finding.Severity
		says     string
	}{
		{"nothing yet", plain, false, accounts.Info{Status: accounts.StatusNone}, finding.OK, "the first order registers one"},
		{"a key that was never registered", plain, false, accounts.Info{Status: accounts.StatusUnregistered}, finding.OK, "the first order registers one"},
		{"nothing yet, and no binding", plain, true, accounts.Info{Status: accounts.StatusNone}, finding.Error, "acme.eab: {kid, hmac_key}"},
		{"nothing yet, with a binding", bound, true, accounts.Info{Status: accounts.StatusNone}, finding.OK, "with the external binding kid-7"},
		{"valid", plain, false, accounts.Info{Status: "valid", URL: url}, finding.OK, "is valid"},
		{"valid, with the terms of today", plain, true, accounts.Info{Status: "valid", URL: url, Terms: terms, CATerms: terms}, finding.OK, "is valid"},
		{"valid, with other terms", plain, false, accounts.Info{Status: "valid", URL: url, Terms: terms + "/1", CATerms: terms + "/2"}, finding.Warning, "are " + terms + "/2 now"},
		{"valid, with terms that were not noted", plain, false, accounts.Info{Status: "valid", URL: url, CATerms: terms}, finding.OK, "is valid"},
		{"deactivated", plain, false, accounts.Info{Status: "deactivated", URL: url}, finding.Error, "mxcert account register"},
		{"lost", plain, false, accounts.Info{Status: accounts.StatusUnknown, URL: url}, finding.Warning, "accounturi"},
		{"its file is damaged", plain, false, accounts.Info{Status: accounts.StatusDamaged, Err: hinted{"account.json\nis damaged", "restore it", ""}}, finding.Error, "account.json; is damaged"},
	} {
		f := tt.doctor.accountCheck(acme.Directory{URL: "https://127.0.0.1:1/directory", EABRequired: tt.eab}, tt.info)
		one(t, tt.what, []finding.Finding{f}, tt.severity, tt.says)
	}
}

// A CA that is away is one finding, with its name.
func TestCAThatIsAway(t *testing.T) {
	t.Parallel()
	d := desert(t).doctor()
	directory := d.Runner.Host.Directories[0]
	one(t, "nothing listens", d.ca(t.Context(), directory, d.Runner.CAs.At(directory)), finding.Error, "127.0.0.1:1")
}

// signed is a self-signed certificate.
func signed(t *testing.T, cn string, notBefore, notAfter time.Time) *bundle.Bundle {
	t.Helper()
	key, err := bundle.EC256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(notAfter.UnixNano()), Subject: pkix.Name{CommonName: cn}, DNSNames: []string{"mx.example.org"}, NotBefore: notBefore, NotAfter: notAfter}
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

// issue stores a current certificate.
func (h *host) issue(b *bundle.Bundle, change func(*state.Record)) {
	h.t.Helper()
	store, err := state.Open(disk.Open(h.Path("state")))
	h.check(err)
	lineage := store.Lineage("mx")
	record, _, err := lineage.Load()
	h.check(err)
	g, err := lineage.Add(b, []string{"mx.example.org"}, "https://127.0.0.1:1/directory", "https://127.0.0.1:1/order/1", time.Now())
	h.check(err)
	record.Slot(bundle.EC256).Current = g.ID
	if change != nil {
		change(&record)
	}
	h.check(lineage.Save(record))
}

// How long the stored certificate is still good, and what the last pass failed at.
func TestStored(t *testing.T) {
	t.Parallel()
	now, day := time.Now(), 24*time.Hour
	for _, tt := range []struct {
		what          string
		before, after time.Duration // from now
		severity      finding.Severity
		says          string
	}{
		{"new", -day, 89 * day, finding.OK, "renewal is due in"},
		{"old", -89 * day, day, finding.Warning, "expires in 24 hours and should have been renewed"},
		{"expired", -90 * day, -day, finding.Error, "has expired: 24 hours ago"},
	} {
		h := desert(t)
		h.issue(signed(t, "", now.Add(tt.before), now.Add(tt.after+time.Minute)), nil)
		if found := h.doctor().stored(h.want()); !h.says(found, tt.severity, strings.Replace(tt.says, "24 hours ago", "23 hours ago", 1)) {
			t.Errorf("%s: %+v", tt.what, found)
		}
	}
	h := desert(t)
	one(t, "nothing is stored", h.doctor().stored(h.want()), finding.OK, "no ec256 certificate yet")
	h.issue(signed(t, "", now.Add(-day), now.Add(89*day)), func(r *state.Record) {
		r.Failure = &state.Failure{At: now, Stage: "order", Message: "out of\norder", Hint: "wait", Count: 1}
	})
	if found := h.doctor().stored(h.want()); !h.says(found, finding.Warning, "stage order: out of; order wait") {
		t.Errorf("a failure: %+v", found)
	}
	h.check(os.WriteFile(h.Path("state", "lineages", "mx", "record.json"), []byte(`{"version":99}`), 0o600))
	one(t, "a record of a later version", h.doctor().stored(h.want()), finding.Error, "record.json")
	if found := h.doctor().endpoints(t.Context(), h.want()); found != nil {
		t.Errorf("it is reported twice: %+v", found)
	}
	if found := h.doctor().places(t.Context(), h.want()); found != nil {
		t.Errorf("it is reported twice: %+v", found)
	}
}

// What is served, beside what should be.
func TestShown(t *testing.T) {
	t.Parallel()
	now, day := time.Now(), 24*time.Hour
	good, other, old := signed(t, "mx\x1b[31m", now.Add(-day), now.Add(day)), signed(t, "", now.Add(-day), now.Add(2*day)), signed(t, "", now.Add(-2*day), now.Add(-day))
	result := func(want, shown *bundle.Bundle) served.Result {
		return served.Result{Probe: served.Probe{Address: "127.0.0.1:25", Want: want}, Shown: &starttls.Result{Chain: shown.Chain()}, Serial: shown.Serial(), Matches: want == shown}
	}
	for _, tt := range []struct {
		what     string
		result   served.Result
		severity finding.Severity
		says     string
	}{
		{"the current one", result(good, good), finding.OK, "serves the certificate with serial " + good.Serial()},
		{"another one", result(other, good), finding.Warning, "but serial " + other.Serial() + " is current"},
		{"one that has expired", result(nil, old), finding.Warning, "it has expired"},
		{"one of another client", result(nil, good), finding.OK, "mxcert has not issued one yet"},
	} {
		f := shown(tt.result)
		one(t, tt.what, []finding.Finding{f}, tt.severity, tt.says)
		if f.Subject != "127.0.0.1:25" || strings.Contains(f.Message, "\x1b") {
			t.Errorf("%s: %+v", tt.what, f)
		}
	}
}

// A server without TLS may get it by the certificate that is not there yet; one that does not answer would fail the proof.
func TestEndpointFault(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]finding.Severity{starttls.KindSTARTTLSNotSupported: finding.Warning, starttls.KindTLSUnavailable: finding.Warning, "connection-refused": finding.Error, "timeout": finding.Error, "": finding.Error} {
		if f := endpointFault(hinted{"a\nb", "x", kind}); f.Severity != want || f.Message != "a; b" {
			t.Errorf("%q: %+v", kind, f)
		}
	}
	h := desert(t)
	one(t, "no endpoint", h.doctor().endpoints(t.Context(), h.want()), finding.OK, "no endpoint configured")
	h.edit("endpoints: []", `endpoints: ["127.0.0.1:1"]`)
	one(t, "an endpoint that is off, before the first certificate", h.doctor().endpoints(t.Context(), h.want()), finding.Error, "refused")
	h.issue(signed(t, "", time.Now().Add(-time.Hour), time.Now().Add(time.Hour)), nil)
	one(t, "after it", h.doctor().endpoints(t.Context(), h.want()), finding.Error, "refused")
}

// Where the files go.
func TestPlaces(t *testing.T) {
	t.Parallel()
	h := desert(t)
	one(t, "a directory that is there", h.doctor().places(t.Context(), h.want()), finding.OK, "every file of 1 target can be written")
	h.edit("/mx.crt", "/gone/mx.crt")
	if found := h.doctor().places(t.Context(), h.want()); !h.says(found, finding.Error, "/gone") {
		t.Errorf("a directory that is not there: %+v", found)
	}
	h.edit("    deploy:\n      - files: {certificate: "+h.Directory+"/gone/mx.crt, private_key: "+h.Directory+"/mx.key, reload: never}\n", "")
	one(t, "no target", h.doctor().places(t.Context(), h.want()), finding.OK, "nothing is deployed")

	h = desert(t)
	h.open()
	d, want := h.doctor(), h.want()
	var found []finding.Finding
	asOther(t, func() { found = d.places(context.Background(), want) })
	one(t, "a directory of another user", found, finding.Error, h.Directory)
}

// A unit that systemd does not know, here or for want of systemd, is a fault.
func TestUnit(t *testing.T) {
	t.Parallel()
	d := desert(t).doctor()
	one(t, "no such unit", d.unit(t.Context(), "no-such-mail-server.service"), finding.Error, "no-such-mail-server.service")
	one(t, "no unit at all", d.unit(t.Context(), "exim4.socket"), finding.Error, "exim4.socket")
	h := desert(t)
	h.edit("reload: never", "unit: exim4.service, reload: auto")
	var ids []string
	for _, c := range h.doctor().certificateTests(h.want()) {
		ids = append(ids, c.id)
	}
	if got := strings.Join(ids, " "); got != "certificate dns-provider preflight deploy unit endpoint tlsa-mode" {
		t.Errorf("tests: %s", got)
	}
}

// A provider that cannot be asked for its rights is said to be set up, no more.
func TestProvider(t *testing.T) {
	t.Parallel()
	h := desert(t)
	resolver := h.want().Resolver()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	one(t, "no key", provider(ctx, h.want(), resolver), finding.Error, "tsig-keygen")
	h.edit(`DNSUPDATE_NAMESERVER: "127.0.0.1:1"`, `DNSUPDATE_NAMESERVER: "127.0.0.1:1", DNSUPDATE_TSIG_KEY: "mxcert.", DNSUPDATE_TSIG_SECRET: "c2VjcmV0"`)
	one(t, "name servers that do not answer", provider(ctx, h.want(), resolver), finding.Warning, "its rights were not tested")
	h.edit("c2VjcmV0", "file:/nonexistent/tsig")
	one(t, "a secret that is missing", provider(ctx, h.want(), resolver), finding.Error, "/nonexistent/tsig")
	h.edit("provider: rfc2136", "provider: exec")
	h.edit(`DNSUPDATE_NAMESERVER: "127.0.0.1:1", DNSUPDATE_TSIG_KEY: "mxcert.", DNSUPDATE_TSIG_SECRET: "file:/nonexistent/tsig"`, `EXEC_PATH: "/bin/true"`)
	one(t, "a program", provider(t.Context(), h.want(), resolver), finding.OK, "the first order will show")
}

// The files and their secrets as the caller has found them.
func TestConfigurationAndSecrets(t *testing.T) {
	t.Parallel()
	h := desert(t)
	d := h.doctor()
	one(t, "no fault", d.configuration(t.Context()), finding.OK, h.config+": no fault found; 1 certificate")
	one(t, "every secret", d.secrets(t.Context()), finding.OK, "every secret of the configuration can be read")
	h.edit(`DNSUPDATE_NAMESERVER: "127.0.0.1:1"`, `DNSUPDATE_NAMESERVER: "127.0.0.1:1", DNSUPDATE_TSIG_SECRET: "file:/nonexistent/tsig"`)
	one(t, "a secret that is missing", h.doctor().secrets(t.Context()), finding.Error, "put the secret where the setting points")
	d.Secrets = []finding.Finding{bad("no").Next("its own hint")}
	one(t, "with a hint of its own", d.secrets(t.Context()), finding.Error, "its own hint")
}
