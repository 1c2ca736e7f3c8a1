package setup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mxcert/configs"
)

// complete are answers of which a configuration can be made.
func complete() *Answers {
	return &Answers{
		Agreed: true, Email: "postmaster@example.org", Directory: "letsencrypt", Domains: []string{"mx.example.org", "host7.example.org"},
		Provider: "rfc2136", Env: map[string]string{"DNSUPDATE_TSIG_KEY": "mxcert.", "DNSUPDATE_TSIG_SECRET": "very-secret"},
		MailServer: exim, Certificate: "/etc/exim4/exim.crt", Key: "/etc/exim4/exim.key", Unit: "exim4.service",
	}
}

// What is written is what was answered, as the configuration's own reader sees it.
func TestDraft(t *testing.T) {
	for _, tt := range []struct {
		what   string
		change func(*Answers)
		check  func(configs.Certificate) bool
	}{
		{"Exim", func(*Answers) {}, func(c configs.Certificate) bool {
			d := c.Deploy[0]
			return d.Kind == exim && d.Certificate[0] == "/etc/exim4/exim.crt" && d.Unit == "exim4.service" && d.Group == "Debian-exim"
		}},
		{"Exim, outside of /etc", func(a *Answers) { a.Key = "/var/lib/mxcert-keys/mx.key" }, func(c configs.Certificate) bool { return c.Deploy[0].Group == "" }},
		{"one file", func(a *Answers) { a.Certificate, a.Key = "/etc/exim4/mx.pem", "/etc/exim4/mx.pem" }, func(c configs.Certificate) bool {
			return c.Deploy[0].Combined == "/etc/exim4/mx.pem" && len(c.Deploy[0].Certificate) == 0
		}},
		{"files", func(a *Answers) { a.MailServer, a.Unit = files, "" }, func(c configs.Certificate) bool { return c.Deploy[0].Kind == files }},
		{"none", func(a *Answers) { a.MailServer = none }, func(c configs.Certificate) bool { return len(c.Deploy) == 0 }},
		{"resolvers", func(a *Answers) { a.Resolvers = []string{"127.0.0.1:53", "[::1]:53"} }, func(c configs.Certificate) bool { return len(c.DNS.Resolvers) == 2 }},
	} {
		t.Run(tt.what, func(t *testing.T) {
			a := complete()
			tt.change(a)
			d, err := a.Draft()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "mxcert.yaml")
			if err := d.Write(path); err != nil {
				t.Fatal(err)
			}
			config, err := configs.Load(path)
			if err != nil || len(config.Certificates) != 1 {
				t.Fatal(err)
			}
			c := config.Certificates[0]
			if !tt.check(c) || strings.Join(c.Domains, " ") != "mx.example.org host7.example.org" {
				t.Errorf("%+v\n%s", c, d.text)
			}
			if strings.Contains(d.text, "very-secret") || !strings.Contains(d.text, `"cred:dnsupdate_tsig_secret"`) || !strings.Contains(d.text, `DNSUPDATE_TSIG_KEY: "mxcert."`) {
				t.Errorf("the variables:\n%s", d.text)
			}
		})
	}
}

// Answers that make no configuration are found before anything is written.
func TestDraftRefuses(t *testing.T) {
	for what, change := range map[string]func(*Answers){
		"mail address": func(a *Answers) { a.Email = "nobody" },
		"name":         func(a *Answers) { a.Domains = []string{"?"} },
		"path":         func(a *Answers) { a.Certificate = "relative.crt" },
		"variable":     func(a *Answers) { a.Env["DNSUPDATE_NONSENSE"] = "1" },
		"ca file":      func(a *Answers) { a.CAFile = "/no/such/file" },
	} {
		a := complete()
		change(a)
		if _, err := a.Draft(); err == nil {
			t.Errorf("%s: no error", what)
		} else if problems, ok := errors.AsType[*configs.Problems](err); !ok {
			t.Errorf("%s: %v", what, problems)
		}
	}
}

// The old configuration is kept, secrets are not readable by others, and the umask changes nothing.
func TestWrite(t *testing.T) {
	old := syscall.Umask(0o077)
	t.Cleanup(func() { syscall.Umask(old) })
	dir := filepath.Join(t.TempDir(), "mxcert")
	path := filepath.Join(dir, "mxcert.yaml")
	for i := range 3 {
		a := complete()
		a.Email = strings.Repeat("x", i+1) + "@example.org"
		d, err := a.Draft()
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Write(path); err != nil {
			t.Fatal(err)
		}
	}
	if text, before := read(t, path), read(t, path+".old"); !strings.Contains(text, `"xxx@example.org"`) || !strings.Contains(before, `"xx@example.org"`) {
		t.Errorf("now\n%s\nbefore\n%s", text, before)
	}
	for name, want := range map[string]os.FileMode{
		dir: os.ModeDir | 0o755, path: 0o640, filepath.Join(dir, "credentials"): os.ModeDir | 0o750, filepath.Join(dir, "credentials/dnsupdate_tsig_secret"): 0o640,
	} {
		if got := mode(t, name); got != want {
			t.Errorf("%s has mode %v, want %v", name, got, want)
		}
	}
	if got := read(t, filepath.Join(dir, "credentials/dnsupdate_tsig_secret")); got != "very-secret\n" {
		t.Errorf("the secret is %q", got)
	}
	if got := entries(t, dir); len(got) != 3 {
		t.Errorf("in the directory: %v", got)
	}
}

// A directory that cannot be made is an error of its own.
func TestWriteFails(t *testing.T) {
	d, err := complete().Draft()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(filepath.Join(file, "mxcert.yaml")); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v", err)
	}
}
