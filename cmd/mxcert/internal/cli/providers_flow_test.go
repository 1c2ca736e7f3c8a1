package cli

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// useProvider replaces the DNS section's provider and env.
func (h *host) useProvider(name string, env ...string) {
	h.t.Helper()
	text, err := os.ReadFile(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), "  provider: rfc2136\n")
	_, after, _ := strings.Cut(rest, "  resolvers:")
	h.write(before + "  provider: " + name + "\n  env:\n    " + strings.Join(env, "\n    ") + "\n  resolvers:" + after)
}

func (h *host) file(path, text string, mode os.FileMode) string {
	h.t.Helper()
	path = h.Path(path)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// TestCertbotHookFlow: scripts as certbot's users have them prove a name and a wildcard to a real CA over real DNS.
func TestCertbotHookFlow(t *testing.T) {
	nsupdate, err := exec.LookPath("nsupdate")
	if err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skipf("%v: install bind9-dnsutils", err)
	}
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Domains: []string{"mx.example.org", "*.mx.example.org"}})
	server, port, _ := net.SplitHostPort(h.Primary.Address())
	const hook = "#!/bin/sh\n%s <<EOM\nserver %s %s\nkey hmac-sha256:%s $TSIG_SECRET\nzone example.org\nupdate $1 _acme-challenge.$CERTBOT_DOMAIN. $2 TXT \"$CERTBOT_VALIDATION\"\nsend\nEOM\n"
	path := h.file("dns-hook", fmt.Sprintf(hook, nsupdate, server, port, lab.KeyName), 0o700)
	h.useProvider("certbot-hook", "CERTBOT_AUTH_HOOK: "+path+" add 60", "CERTBOT_CLEANUP_HOOK: "+path+` delete ""`, "TSIG_SECRET: "+h.Secret())
	if r := h.report(report.CodeOK, "renew"); r.Certificates[0].Stage != report.Served {
		t.Errorf("%+v", r)
	}
	if strings.Contains(h.run("check").stderr, "_HOOK") {
		t.Error("the path of a script is taken for a secret")
	}
	if left := h.World.Challenges(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if made := h.World.TXTHistory("_acme-challenge.mx.example.org"); len(made) != 2 {
		t.Errorf("made: %q", made)
	}
}

// TestLegoProviderFlow: a provider of lego's, with settings from a file, proves names to a real CA.
func TestLegoProviderFlow(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var change struct{ FQDN, Value string }
		user, password, _ := r.BasicAuth()
		err := json.NewDecoder(r.Body).Decode(&change)
		switch {
		case user != "mxcert" || password != "from a file":
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		case err != nil:
		case r.URL.Path == "/present":
			err = h.World.Add(change.FQDN + ` 5 IN TXT "` + change.Value + `"`)
		case r.URL.Path == "/cleanup":
			err = h.World.Remove(change.FQDN)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	t.Cleanup(api.Close)
	h.useProvider("httpreq", "HTTPREQ_ENDPOINT: "+api.URL, "HTTPREQ_USERNAME: mxcert", "HTTPREQ_PASSWORD_FILE: "+h.file("password", "from a file\n", 0o600))
	if r := h.report(report.CodeOK, "renew"); r.Certificates[0].Stage != report.Served {
		t.Errorf("%+v", r)
	}
	if left := h.World.Challenges(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	h.file("password", "another", 0o600)
	got := h.run("renew", "--now")
	if got.code != report.CodeTemporary || !strings.Contains(got.stderr+got.stdout, "DNS provider httpreq: cannot create TXT record _acme-challenge.") || !strings.Contains(got.stderr+got.stdout, "who are you?") {
		t.Errorf("with a wrong password: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}
