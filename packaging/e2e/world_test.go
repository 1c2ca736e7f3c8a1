// Package e2e tells the stories of mxcert on a real mail host; world_test.go proves the host itself, without mxcert.
// See mailhost.Require for what it takes to run them.
package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

var shared struct {
	once sync.Once
	host *mailhost.Host
	err  error
}

// sharedHost is one host for all stories that leave it as they found it.
func sharedHost(t *testing.T) *mailhost.Host {
	t.Helper()
	mailhost.Require(t)
	shared.once.Do(func() {
		shared.host, shared.err = mailhost.Boot(context.Background(), mailhost.Options{Logf: t.Logf})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(shared.host.Diagnose())
		}
	})
	return shared.host
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.host != nil {
		began := time.Now()
		if err := shared.host.PowerOff(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		fmt.Printf("figure: mail host booted in %v, powered off in %v\n",
			shared.host.BootTime.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	}
	os.Exit(code)
}

// unfolded returns a result for a person on one line, because results are broken into lines of 80 columns.
func unfolded(text string) string { return strings.Join(strings.Fields(text), " ") }

// must runs a program in the host that has to succeed.
func must(t *testing.T, h *mailhost.Host, argv ...string) string {
	t.Helper()
	out, err := h.Must(t.Context(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSystemdRuns(t *testing.T) {
	h := sharedHost(t)
	if got := strings.TrimSpace(must(t, h, "systemctl", "is-system-running")); got != "running" {
		t.Errorf("systemd is %q", got)
	}
	if got := strings.TrimSpace(must(t, h, "hostname", "--fqdn")); got != "mx.example.org" {
		t.Errorf("the host is called %q", got)
	}
	t.Log(strings.TrimSpace(must(t, h, "systemd-analyze")))
	if limit := 20 * time.Second; h.BootTime > limit {
		t.Errorf("boot took %v, more than %v", h.BootTime, limit)
	}
}

func TestEximServesSelfSigned(t *testing.T) {
	h := sharedHost(t)
	for _, address := range []string{"127.0.0.1:25", "[::1]:25"} {
		s, err := h.ServedBy(t.Context(), address, "mx.example.org", "")
		if err != nil {
			t.Fatal(err)
		}
		if s.VerifyCode != 18 || len(s.Chain) != 1 || s.Names[0] != "mx.example.org" {
			t.Errorf("%s: verify code %d (%s), %d certificates, names %v; wanted one self-signed for mx.example.org\n%s",
				address, s.VerifyCode, s.VerifyText, len(s.Chain), s.Names, s.Output)
		}
		// Trusted as its own root, the same certificate verifies: the code is openssl's, not a constant.
		if s, err = h.ServedBy(t.Context(), address, "mx.example.org", "/etc/exim4/exim.crt"); err != nil || s.VerifyCode != 0 {
			t.Errorf("%s: verify code %d (%s), %v; wanted 0", address, s.VerifyCode, s.VerifyText, err)
		}
		if s, err = h.ServedBy(t.Context(), address, "other.example.org", "/etc/exim4/exim.crt"); err != nil || s.VerifyCode != 62 {
			t.Errorf("%s: verify code %d (%s), %v; wanted 62 for another name", address, s.VerifyCode, s.VerifyText, err)
		}
	}
}

func TestZoneIsSigned(t *testing.T) {
	h := sharedHost(t)
	eventually(t, 10*time.Second, func() error {
		out := must(t, h, "dig", "+dnssec", "+norec", "@127.0.0.1", "example.org", "MX")
		if !strings.Contains(out, "status: NOERROR") || !strings.Contains(out, " aa") || !strings.Contains(out, "RRSIG\tMX 13 2") {
			return fmt.Errorf("no signed MX:\n%s", out)
		}
		return nil
	})
	if out := must(t, h, "dig", "+dnssec", "+norec", "@::1", "example.com", "MX"); !strings.Contains(out, "mx.example.org.") || strings.Contains(out, "RRSIG") {
		t.Errorf("example.com, which is not signed, answers\n%s", out)
	}
	if out := must(t, h, "dig", "+norec", "www.example.net", "A"); !strings.Contains(out, "NXDOMAIN") {
		t.Errorf("a name of nobody's answers\n%s", out)
	}
}

func TestUpdatesNeedTheKey(t *testing.T) {
	h := sharedHost(t)
	const name = "_acme-challenge.mx.example.org"
	update := func(secret, line string) mailhost.Result {
		key := fmt.Sprintf("hmac-sha256:mxcert.:%s", secret)
		r, err := h.RunInput(t.Context(), "server 127.0.0.1\n"+line+"\nsend\n", "nsupdate", "-y", key)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	wrong := strings.Repeat("A", 43) + "="
	for what, r := range map[string]mailhost.Result{
		"another secret":           update(wrong, "update add "+name+" 60 TXT stranger"),
		"a type that is not ours":  update(h.TSIGSecret, "update add evil.example.org 60 A 127.0.0.1"),
		"a zone that is not there": update(h.TSIGSecret, "zone example.net\nupdate add www.example.net 60 TXT stranger"),
	} {
		if r.Code == 0 {
			t.Errorf("an update with %s was taken: %s%s", what, r.Stdout, r.Stderr)
		}
	}
	if r := update(h.TSIGSecret, "update add "+name+" 60 TXT hello"); r.Code != 0 {
		t.Fatalf("update: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	eventually(t, 10*time.Second, func() error {
		out := must(t, h, "dig", "+dnssec", "+norec", "@127.0.0.1", name, "TXT")
		if !strings.Contains(out, `"hello"`) || strings.Contains(out, "stranger") || !strings.Contains(out, "RRSIG\tTXT") {
			return fmt.Errorf("no signed TXT:\n%s", out)
		}
		return nil
	})
	if r := update(h.TSIGSecret, "update delete "+name+" TXT"); r.Code != 0 {
		t.Fatalf("delete: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r, err := h.RunInput(t.Context(), "update add www.example.org 60 A 127.0.0.1\nsend\nupdate delete www.example.org\nsend\n", "nsupdate", "-l"); err != nil || r.Code != 0 {
		t.Errorf("nsupdate -l, for the tests' own changes: %v, exit status %d\n%s%s", err, r.Code, r.Stdout, r.Stderr)
	}
}

func TestResolverValidates(t *testing.T) {
	h := sharedHost(t)
	must(t, h, "systemctl", "start", "resolver.service")
	defer must(t, h, "systemctl", "stop", "resolver.service")
	for name, secure := range map[string]bool{"example.org": true, "example.com": false} {
		out := must(t, h, "dig", "+adflag", "@127.0.0.53", name, "MX")
		if !strings.Contains(out, "mx.example.org.") || strings.Contains(out, " ad;") != secure {
			t.Errorf("%s: AD should be %v:\n%s", name, secure, out)
		}
	}
}

func TestPebbleServesItsDirectory(t *testing.T) {
	h := sharedHost(t)
	began := time.Now()
	if err := h.StartPebble(t.Context(), 90*time.Second); err != nil {
		t.Fatal(err)
	}
	t.Logf("Pebble answers after %v", time.Since(began).Round(time.Millisecond))
	client, err := h.HTTPClient(mailhost.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	resp, err := client.Get(mailhost.DirectoryURL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("directory: %s", resp.Status)
	}
	before, err := h.Get(mailhost.RootsFile)
	if err != nil || !strings.Contains(string(before), "BEGIN CERTIFICATE") {
		t.Errorf("%s: %q, %v", mailhost.RootsFile, before, err)
	}
	must(t, h, "systemctl", "stop", "pebble.service")
	if _, err := client.Get(mailhost.DirectoryURL); err == nil {
		t.Error("the directory is served by a Pebble that was stopped")
	}
}

// reloadRule lets the user mxcert reload Exim, and nothing else.
const reloadRule = `polkit.addRule(function(action, subject) {
	if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "mxcert" &&
	    action.lookup("unit") == "exim4.service" && action.lookup("verb") == "reload") {
		return polkit.Result.YES;
	}
});
`

func TestPolkitAllowsTheReloadOnly(t *testing.T) {
	h := sharedHost(t)
	must(t, h, "sh", "-c", "getent passwd mxcert || useradd --system mxcert; getent passwd other || useradd --system other")
	if err := h.Put("/etc/polkit-1/rules.d/50-e2e.rules", []byte(reloadRule), 0o644); err != nil {
		t.Fatal(err)
	}
	before, err := h.ReloadCount(t.Context(), "exim4.service")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := h.EximPID()
	if err != nil {
		t.Fatal(err)
	}
	call := func(user, method, unit string) mailhost.Result {
		r, err := h.Run(t.Context(), "setpriv", "--reuid", user, "--regid", user, "--init-groups", "busctl", "call",
			"org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", method, "ss", unit, "replace")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	eventually(t, 5*time.Second, func() error { // polkitd notices a new rule by inotify
		if r := call("mxcert", "ReloadUnit", "exim4.service"); r.Code != 0 {
			return fmt.Errorf("the reload is refused: %s", r.Stderr)
		}
		return nil
	})
	for _, refused := range []struct{ user, method, unit string }{
		{"mxcert", "RestartUnit", "exim4.service"},
		{"mxcert", "StopUnit", "exim4.service"},
		{"mxcert", "StartUnit", "exim4.service"},
		{"mxcert", "ReloadOrTryRestartUnit", "exim4.service"},
		{"mxcert", "ReloadUnit", "named.service"},
		{"other", "ReloadUnit", "exim4.service"},
	} {
		if r := call(refused.user, refused.method, refused.unit); r.Code == 0 || !strings.Contains(r.Stderr, "authentication required") {
			t.Errorf("%v: exit status %d, %s", refused, r.Code, r.Stderr)
		}
	}
	eventually(t, 10*time.Second, func() error {
		after, err := h.ReloadCount(t.Context(), "exim4.service")
		if err == nil && after != before+1 {
			err = fmt.Errorf("%d reloads counted, wanted %d", after, before+1)
		}
		return err
	})
	if now, err := h.EximPID(); err != nil || now != pid {
		t.Errorf("Exim was %d and is %d, %v: a reload does not change the process", pid, now, err)
	}
}

func TestMxcertIsInstalled(t *testing.T) {
	h := sharedHost(t)
	if err := h.InstallMxcert(t.Context(), mailhost.Install{Service: true}); err != nil {
		t.Fatal(err)
	}
	if out := must(t, h, "mxcert", "version"); !strings.Contains(out, "mxcert") {
		t.Errorf("mxcert version says %q", out)
	}
	// It is there, not enabled and not started.
	unit, err := h.Unit(t.Context(), "mxcert.service", "LoadState", "ActiveState", "UnitFileState")
	if err != nil || unit["LoadState"] != "loaded" || unit["ActiveState"] != "inactive" || unit["UnitFileState"] != "disabled" {
		t.Errorf("mxcert.service: %v, %v", unit, err)
	}
}

// eventually repeats a check until it holds or the time is up.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after %v: %v", limit, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
