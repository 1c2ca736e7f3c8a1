package cli

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/deploy/verdict"

	"mxcert/cmd/mxcert/internal/report"
)

// chain reads what is deployed.
func (h *host) chain() []*x509.Certificate {
	h.t.Helper()
	text, err := os.ReadFile(h.Path("tls", "mx.crt"))
	h.check(err)
	chain, err := bundle.ParseChain(text)
	h.check(err)
	return chain
}

// records puts records in the place of all that the mail server has.
func (h *host) records(list ...string) {
	h.t.Helper()
	h.check(h.World.Remove(h.owner() + "."))
	for _, r := range list {
		h.check(h.World.Add(h.owner() + ". 2 TLSA " + r))
	}
}

// tlsaCheck runs tlsa check --json; the exit code must be the wanted one.
func (h *host) tlsaCheck(code report.Code) (c tlsaCheck) {
	h.t.Helper()
	got := h.run("tlsa", "check", "--json")
	if err := json.Unmarshal([]byte(got.stdout), &c); err != nil || got.code != code {
		h.t.Fatalf("tlsa check: exit code %d, want %d (%v)\n%s%s", got.code, code, err, got.stdout, got.stderr)
	}
	noNullLists(h.t, got.stdout, "records", "keys", "owners", "seen_by", "verdicts", "findings")
	if c.OK != (code == report.CodeOK) {
		h.t.Errorf("ok is %v with exit code %d", c.OK, code)
	}
	return c
}

// noNullLists: a list without elements is [] in a document, and not null.
func noNullLists(t *testing.T, document string, lists ...string) {
	t.Helper()
	for _, list := range lists {
		if strings.Contains(document, `"`+list+`": null`) {
			t.Errorf("%s is null in\n%s", list, document)
		}
	}
}

// Each kind of record is judged as senders do, and named.
func TestTLSACheckVerdicts(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "check", lab.Options{Secondaries: 1})
	h.report(report.CodeOK, "renew")
	chain := h.chain()
	ours, leaf := "3 1 1 "+bundle.SPKIOf(chain[0].RawSubjectPublicKeyInfo), "3 0 1 "+bundle.SPKIOf(chain[0].Raw)
	issuer, other := "2 1 1 "+bundle.SPKIOf(chain[1].RawSubjectPublicKeyInfo), "3 1 1 "+strings.Repeat("ab", 32)
	for _, tt := range []struct {
		what    string
		records []string
		result  verdict.Result
		matches string // of the first record
		code    report.Code
	}{
		{"no record", nil, verdict.NotApplicable, "", report.CodeOK},
		{"the key", []string{ours}, verdict.Pass, "current ec256", report.CodeOK},
		{"the certificate", []string{leaf}, verdict.Pass, "current ec256", report.CodeOK},
		{"the issuer", []string{issuer}, verdict.Pass, "issuer", report.CodeOK},
		{"another key", []string{other}, verdict.Fail, "", report.CodeFault},
		{"another key beside ours", []string{other, ours}, verdict.Pass, "", report.CodeOK},
		{"unusable", []string{"0 1 1 " + strings.Repeat("ab", 32)}, verdict.NotApplicable, "", report.CodeOK},
	} {
		h.records(tt.records...)
		c := h.tlsaCheck(tt.code)
		if len(c.Verdicts) != 1 || c.Verdicts[0].Result != tt.result || c.Verdicts[0].NotJudged || c.Verdicts[0].Owner != h.owner() || c.Verdicts[0].Address != h.SMTP.Address() {
			t.Errorf("%s: %+v", tt.what, c.Verdicts)
		}
		if len(c.TLSA.Records) != len(tt.records) {
			t.Fatalf("%s: %+v", tt.what, c.TLSA.Records)
		}
		for _, r := range c.TLSA.Records {
			if r.Record == strings.Join(tt.records[:1], "") && r.Matches != tt.matches || r.Ours || len(r.SeenBy) != 2 || r.SeenBy[0].Serial == 0 || r.Missing != nil {
				t.Errorf("%s: %+v", tt.what, r)
			}
		}
	}
	if got := h.run("tlsa", "check"); !strings.Contains(got.said(), "senders "+h.owner()+" ec256 at "+h.SMTP.Address()+": do not check, no record is usable") {
		t.Errorf("%s", got.stdout)
	}
	h.records(other)
	if got := h.run("tlsa", "check"); got.code != report.CodeFault || !strings.HasPrefix(got.stdout, "mx: DANE senders defer mail\n") || !strings.Contains(got.stdout, "\n    "+other+"\n") {
		t.Errorf("%d\n%s", got.code, got.stdout)
	}
	if got := h.run("status", "-q"); got.code != report.CodeFault || !strings.Contains(got.said(), "tlsa mode check, blocked") || !strings.Contains(got.said(), "serial ") {
		t.Errorf("status: %d\n%s", got.code, got.stdout)
	}
	if got := h.run("renew"); got.code != report.CodeOK {
		t.Errorf("what is broken already is renewed: %d\n%s", got.code, got.stdout)
	}
}

// What cannot be looked up, or has no address that answers, is no fault, and not all is well either.
func TestTLSACheckNotJudged(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "check", lab.Options{})
	h.report(report.CodeOK, "renew")
	h.edit("resolvers: ", "resolvers: [\"127.0.0.1:9\"] # ")
	c := h.tlsaCheck(report.CodeTemporary)
	if len(c.Findings) == 0 || c.Verdicts[0].Result != verdict.NotApplicable || !c.Verdicts[0].NotJudged {
		t.Errorf("no resolver: %+v", c)
	}
	h.edit("resolvers: [\"127.0.0.1:9\"] # ", "resolvers: ")
	h.records("3 1 1 " + strings.Repeat("ab", 32))
	h.SMTP.Close()
	if c := h.tlsaCheck(report.CodeTemporary); !c.Verdicts[0].NotJudged || c.Verdicts[0].Reason == "" {
		t.Errorf("no mail server: %+v", c.Verdicts)
	}
	h.edit("    dane: {mode: \"check\"", "    dane: {mode: \"off\"")
	if got := h.run("tlsa", "check"); got.code != report.CodeTemporary || !strings.Contains(got.stdout, "mx: not judged") {
		t.Errorf("%d\n%s", got.code, got.stdout)
	}
}

// nsupdate sends a script to the primary name server.
func (h *host) nsupdate(script string) error {
	h.t.Helper()
	program, err := exec.LookPath("nsupdate")
	if err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") != "" {
			h.t.Fatal("nsupdate is missing: apt-get install bind9-dnsutils")
		}
		h.t.Skip("nsupdate is missing: apt-get install bind9-dnsutils")
	}
	address, port, _ := strings.Cut(h.Primary.Address(), ":")
	cmd := exec.CommandContext(h.t.Context(), program, "-y", "hmac-sha256:"+lab.KeyName+":"+h.Secret())
	cmd.Stdin = strings.NewReader("server " + address + " " + port + "\n" + script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// What is shown for nsupdate, the real nsupdate takes: at the end of aliases, and not where somebody has made an alias since.
func TestTLSAShowForNsupdate(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "check", lab.Options{})
	key := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	script := h.run("tlsa", "show", "--format", "nsupdate").stdout
	h.check(h.World.Add(h.owner() + ". CNAME tlsa.example.org."))
	if err := h.nsupdate(script); err == nil || !strings.Contains(err.Error(), "YXRRSET") {
		t.Errorf("at an alias: %v\n%s", err, script)
	}
	script = h.run("tlsa", "show", "--format", "nsupdate").stdout
	if !strings.Contains(script, "zone example.org.\nprereq nxrrset tlsa.example.org. IN CNAME\nupdate add tlsa.example.org. 2 IN TLSA 3 1 1 "+key.SPKI+"\nsend\n") {
		t.Errorf("at the end of an alias:\n%s", script)
	}
	h.check(h.nsupdate(script))
	if c := h.tlsaCheck(report.CodeOK); c.Verdicts[0].Result != verdict.Pass {
		t.Errorf("%+v", c)
	}
	if got := h.run("tlsa", "show"); !strings.Contains(got.stdout, "; current ec256 key, published on every server\ntlsa.example.org. 2 IN TLSA") {
		t.Errorf("%s", got.stdout)
	}
}

// With mode gate, the operator publishes what is shown, and that is all there is to do for a change of the key.
func TestTLSARollByHand(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "gate", lab.Options{})
	first := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].SPKI
	h.publishShown()
	var c report.Certificate
	eventually(t, "a change of the key", func() bool {
		var r rollReport
		got := h.run("tlsa", "roll", "mx", "--json")
		h.check(json.Unmarshal([]byte(got.stdout), &r))
		c = r.Certificates[0]
		if waits := c.TLSA.WaitingFor != "" || c.Error != nil; c.Keys[0].SPKI == first && !waits {
			t.Errorf("it does not say what it waits for: %+v, %+v", c, c.TLSA)
		}
		return c.Keys[0].SPKI != first
	})
	if c.Stage != report.Served || c.TLSA.Keys[0].Current != c.Keys[0].SPKI {
		t.Errorf("%+v, %+v", c, c.TLSA)
	}
	h.tlsaCheck(report.CodeOK)
	eventually(t, "the old record can go", func() bool {
		h.report(report.CodeOK, "renew")
		return strings.Contains(h.run("tlsa", "show").stdout, "can be removed\n; "+h.owner()+". 2 IN TLSA 3 1 1 "+first)
	})
	h.publishShown()
	if c := h.tlsaCheck(report.CodeOK); len(c.TLSA.Records) != 2 {
		t.Errorf("%+v", c.TLSA.Records)
	}
}

// publishShown publishes what tlsa show prints.
func (h *host) publishShown() {
	h.t.Helper()
	got := h.run("tlsa", "show", "--format", "nsupdate")
	if got.code != report.CodeOK || strings.Count(got.stdout, "update add") != 2 {
		h.t.Fatalf("%d\n%s%s", got.code, got.stdout, got.stderr)
	}
	h.check(h.nsupdate(got.stdout))
}

// An emergency asks before senders defer mail, and ends with the revocation, or with how to do it.
func TestTLSARollInAnEmergency(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "gate", lab.Options{})
	key := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	h.records("3 1 1 " + key.SPKI) // of which no pass knows yet
	if got := h.run("tlsa", "roll", "--emergency"); got.code != report.CodeUsage || !strings.Contains(got.stderr, "some DANE senders defer mail") {
		t.Errorf("the next key is not published: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	h.publishShown()
	h.report(report.CodeOK, "renew")
	serial := func() string { r, _ := h.status(); return r.Certificates[0].Keys[0].Serial }
	old := serial()
	if got := h.run("tlsa", "roll", "--emergency", "--fresh"); got.code != report.CodeUsage || !strings.Contains(got.stderr, "some DANE senders defer mail until 20") || !strings.Contains(got.stderr, "--yes") || serial() != old {
		t.Errorf("nobody to ask: %d\n%s", got.code, got.stderr)
	}
	if code, said := h.answer("n\n", "tlsa", "roll", "--emergency", "--fresh"); code != report.CodeFailed || !strings.Contains(said, "nothing was changed") || serial() != old {
		t.Errorf("no: %d\n%s", code, said)
	}
	if code, said := h.answer("y\nn\n", "tlsa", "roll", "--emergency", "--fresh"); code != report.CodeOK || !strings.Contains(said, "mxcert revoke mx --serial "+old+" --reason keyCompromise") || serial() == old || h.revokedAs(old) >= 0 {
		t.Errorf("yes, and no: %d, at the CA %d\n%s", code, h.revokedAs(old), said)
	}
	old = serial()
	got := h.run("tlsa", "roll", "--emergency", "--fresh", "--yes", "--json")
	noNullLists(t, got.stdout, "why", "revocations", "certificates", "records", "keys", "warnings")
	var r rollReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != report.CodeOK || !strings.Contains(r.Next, "mxcert tlsa show mx") || r.Deferral == nil || r.Deferral.Until == nil || len(r.Revocations) != 1 || h.revokedAs(old) != 1 || serial() == old {
		t.Errorf("--yes: %d, at the CA %d\n%s%s", got.code, h.revokedAs(old), got.stdout, got.stderr)
	}
}

// A daemon does the work of the commands, with its rights.
func TestTLSARollByTheDaemon(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "gate", lab.Options{})
	d := h.daemon()
	d.awaitLog("certificate in service")
	h.publishShown()
	r, _ := h.status()
	first := r.Certificates[0].Keys[0].SPKI
	if got := h.run("tlsa", "roll"); got.code != report.CodeOK && got.code != report.CodeTemporary {
		t.Errorf("%d\n%s%s", got.code, got.stdout, got.stderr)
	}
	eventually(t, "the daemon changes the key", func() bool {
		r, _ := h.status()
		return r.Certificates[0].Keys[0].SPKI != first && r.Certificates[0].Stage == report.Served
	})
	d.stop()
}

// With mode publish, an emergency loses no mail: the next key is known everywhere, the leaked key's record goes in the same run, and the
// leaked certificate is revoked last.
func TestTLSARollPublishedInAnEmergency(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "publish", lab.Options{})
	old := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	h.steady()
	next := h.tlsaCheck(report.CodeOK).TLSA.Keys[0].Next
	got := h.run("tlsa", "roll", "--emergency", "--yes", "--json")
	var r rollReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != report.CodeOK || r.Deferral != nil || r.Certificates[0].Keys[0].SPKI != next || len(r.Revocations) != 1 || h.revokedAs(old.Serial) != 1 {
		t.Fatalf("%d, at the CA %d\n%s%s", got.code, h.revokedAs(old.Serial), got.stdout, got.stderr)
	}
	removed, revoked := strings.Index(got.stderr, "removed at "+h.owner()), strings.Index(got.stderr, "is revoked (keyCompromise)")
	if removed < 0 || revoked < removed {
		t.Errorf("the record is not removed before the revocation:\n%s", got.stderr)
	}
	for _, record := range h.tlsaCheck(report.CodeOK).TLSA.Records {
		if strings.HasSuffix(record.Record, old.SPKI) && len(record.SeenBy) > 0 {
			t.Errorf("the leaked key's record is still there: %+v", record)
		}
	}
}

// steady waits until a change of the key would wait for nothing.
func (h *host) steady() {
	h.t.Helper()
	eventually(h.t, "steady", func() bool {
		if got := h.run("tlsa", "publish"); got.code != report.CodeOK {
			h.t.Fatalf("%d\n%s%s", got.code, got.stdout, got.stderr)
		}
		r, _ := h.status()
		return r.Certificates[0].TLSA.State == "steady"
	})
}
