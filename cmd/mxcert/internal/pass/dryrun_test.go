package pass

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/deploy"

	"mxcert/cmd/mxcert/internal/report"
)

// A dry run of what is not an order: it names each file and each reload, and changes none.
func TestDryRunOfADeployment(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Preload: true}, lab.ConfigOptions{})
	h.edit("timeout: 30s}", "timeout: 1s}")
	h.edit(fmt.Sprintf("private_key: %q", h.Path("tls", "mx.key")), fmt.Sprintf("private_key: %q, mode: \"0640\"", h.Path("tls", "mx.key")))
	h.pass(report.CodeNotInService, renew)
	h.edit("timeout: 1s}", "timeout: 30s}")
	h.check(h.SMTP.Reload())
	h.pass(report.CodeOK, renew)
	if c := h.pass(report.CodeOK, dryRun); len(c.Plan) != 0 || c.Stage != report.Served {
		t.Errorf("nothing is to be done: %+v", c)
	}
	h.check(os.Remove(h.Path("tls", "mx.crt")))
	h.check(os.Chmod(h.Path("tls", "mx.key"), 0o600))
	for _, options := range []Options{dryRun, {DryRun: true, DeployOnly: true}} {
		c := h.pass(report.CodeOK, options)
		if len(c.Plan) != 3 || !slices.ContainsFunc(c.Plan, func(s string) bool {
			return strings.HasPrefix(s, "write "+h.Path("tls", "mx.crt")+" (missing), ") && strings.HasSuffix(s, " mode 0640")
		}) ||
			!slices.ContainsFunc(c.Plan, func(s string) bool { return strings.HasPrefix(s, "write "+h.Path("tls", "mx.key")+" (mode or owner)") }) {
			t.Errorf("%+v: %q", options, c.Plan)
		}
	}
	if _, err := os.Stat(h.Path("tls", "mx.crt")); !os.IsNotExist(err) {
		t.Error("a dry run wrote a file")
	}
	h.pass(report.CodeOK, renew)
	h.check(os.Rename(h.Path("tls"), h.Path("tls.good")))
	h.check(os.Mkdir(h.Path("tls"), 0o700))
	_ = h.SMTP.Reload() // fails, and leaves it without a certificate
	h.check(os.Remove(h.Path("tls")))
	h.check(os.Rename(h.Path("tls.good"), h.Path("tls")))
	if c := h.pass(report.CodeOK, dryRun); len(c.Plan) != 1 || !strings.HasPrefix(c.Plan[0], "reload") {
		t.Errorf("the server has no certificate: %q", c.Plan)
	}
}

// A dry run is a diff for programs, too: of what exists now; what an order will bring is not known.
func TestDryRunIsADiff(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if d := h.pass(report.CodeOK, dryRun).DryRun; d == nil || len(d.Orders) != 1 || len(d.Files) != 0 {
		t.Errorf("%+v", d)
	}
	first := h.pass(report.CodeOK, renew).Keys[0].Serial
	second := h.pass(report.CodeOK, Options{Force: true, NewKey: true}).Keys[0].Serial
	c := h.pass(report.CodeOK, dryRollback)
	if d := c.DryRun; len(d.Orders) != 0 || len(d.Files) != 2 || d.Files[0].Before == nil || d.Files[0].After.Mode != "0640" || len(d.Handshakes) != 1 || c.Keys[0].Serial != first {
		t.Errorf("%+v", c)
	}
	if h.served() != second || h.look(report.CodeOK).Keys[0].Serial != second {
		t.Error("a dry run has changed something")
	}
	h.check(os.Chmod(h.Path("tls", "mx.key"), 0o600))
	c = h.pass(report.CodeOK, Options{DryRun: true, DeployOnly: true})
	if d := c.DryRun; len(d.Files) != 1 || d.Files[0].Content || d.Files[0].Before.Mode != "0600" || len(d.Handshakes) != 0 || d.Reloads == nil {
		t.Errorf("%+v", d)
	}
}

// What a dry run says of files, in words.
func TestChangesInWords(t *testing.T) {
	t.Parallel()
	file := deploy.Attributes{Owner: "root", Group: "Debian-exim", Mode: "0640"}
	open := deploy.Attributes{Owner: "root", Group: "root", Mode: "0644"}
	for want, c := range map[string]deploy.Change{
		"write /tls/mx.key (missing), root:Debian-exim mode 0640":                             {Path: "/tls/mx.key", Why: "missing", After: file},
		"write /tls/mx.key (content), root:Debian-exim mode 0640":                             {Path: "/tls/mx.key", Why: "content", Before: &file, After: file},
		"write /tls/mx.key (mode or owner), root:root mode 0644 → root:Debian-exim mode 0640": {Path: "/tls/mx.key", Why: "mode or owner", Before: &open, After: file},
		"write /tls/live (content), link to live.0 → link to live.1":                          {Path: "/tls/live", Why: "content", Before: &deploy.Attributes{Link: "live.0"}, After: deploy.Attributes{Link: "live.1"}},
	} {
		if got := changeText(c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What comes after the files: reloads with their conditions, and a handshake for each endpoint and key type.
func TestPlanOfTheProof(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.edit("keys: [ec256]", "keys: [ec256, rsa2048]")
	text := o.text()
	from := strings.Index(text, "      - files:")
	rest := text[strings.Index(text, "state:"):]
	o.write(text[:from] + strings.ReplaceAll(`      - exim: {certificate: "DIR/{key}.crt", private_key: "DIR/{key}.key", reload: auto, unchecked: true}
      - dovecot: {certificate: "DIR/d.{key}.crt", private_key: "DIR/d.{key}.key", reload: always, unchecked: true}
      - files: {certificate: "DIR/f.{key}.crt", private_key: "DIR/f.{key}.key", reload: never}
    verify: {endpoints: ["192.0.2.1:25", "192.0.2.1:993"]}
`, "DIR", o.Path("tls")) + rest)
	ec := o.issued()
	rsa := o.keep(o.sign(bundle.RSA2048, nil, nil), time.Now())
	p := o.begin(dryRun)
	p.dryRun = &report.DryRun{}
	p.planProof()
	want := []string{"reload dovecot.service", "reload exim4.service, unless it notices the files",
		"shake hands with 192.0.2.1:25 as mx.example.org until it shows serial " + ec.Serial + " (ec256)", "shake hands with 192.0.2.1:25 as mx.example.org until it shows serial " + rsa.Serial + " (rsa2048)",
		"shake hands with 192.0.2.1:993 as mx.example.org until it shows serial " + ec.Serial + " (ec256)", "shake hands with 192.0.2.1:993 as mx.example.org until it shows serial " + rsa.Serial + " (rsa2048)"}
	if !slices.Equal(p.intended, want) {
		t.Errorf("%q, want %q", p.intended, want)
	}
	if d := p.dryRun; len(d.Reloads) != 2 || d.Reloads[0] != (report.Reload{Unit: "dovecot.service", When: "always"}) || d.Reloads[1].When != "auto" || len(d.Handshakes) != 4 || d.Handshakes[3].Key != "rsa2048" {
		t.Errorf("%+v", d)
	}
}

// A dry run of a first issue finds what would keep the certificate from its place, and says what would be ordered.
func TestDryRunOfAFirstIssue(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	c := o.pass(report.CodeOK, dryRun)
	if len(c.Plan) != 1 || c.Plan[0] != "order: ec256 certificate for mx.example.org, host7.example.org: there is none yet" || c.Stage != report.Waiting || !o.heard("done: 1 step would be taken") {
		t.Errorf("%+v, %q", c, o.said)
	}
	if c := o.pass(report.CodeOK, Options{DryRun: true, DeployOnly: true}); len(c.Plan) != 0 || len(c.DryRun.Orders) != 0 {
		t.Errorf("without an order: %+v", c)
	}
	o.check(os.RemoveAll(o.Path("tls")))
	if c := o.pass(report.CodeFailed, dryRun); c.Stage != report.Failed || c.Error.Stage != "deploy" || c.Error.Kind != "missing-directory" {
		t.Errorf("%+v, %+v", c, c.Error)
	}
	if _, err := os.Stat(o.Path("state", "lineages", "mx")); !os.IsNotExist(err) {
		t.Errorf("a dry run has made something: %v", err)
	}
}
