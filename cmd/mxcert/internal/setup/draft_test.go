package setup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
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
		Targets: []Target{{Kind: exim, Pairs: onePair("/etc/exim4/exim.crt", "/etc/exim4/exim.key"), Unit: "exim4.service", Group: "Debian-exim"}},
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
		{"one file", func(a *Answers) { a.Targets[0].Pairs = onePair("/etc/exim4/mx.pem", "/etc/exim4/mx.pem") }, func(c configs.Certificate) bool {
			return c.Deploy[0].Combined == "/etc/exim4/mx.pem" && len(c.Deploy[0].Certificate) == 0 && !c.Verify.EndpointsSet
		}},
		{"files", func(a *Answers) {
			a.Targets = []Target{{Kind: files, Pairs: onePair("/srv/mx.crt", "/srv/mx.key")}}
		}, func(c configs.Certificate) bool {
			return c.Deploy[0].Kind == files && c.Deploy[0].Unit == "" && c.Verify.EndpointsSet && len(c.Verify.Endpoints) == 0
		}},
		{"none", func(a *Answers) { a.Targets = nil }, func(c configs.Certificate) bool { return len(c.Deploy) == 0 }},
		{"two servers", func(a *Answers) {
			a.Targets = []Target{{Kind: postfix, Pairs: onePair("/srv/mx.pem", "/srv/mx.pem"), Unit: "postfix.service"}, {Kind: dovecot, Pairs: onePair("/srv/mx.crt", "/srv/mx.key"), Unit: "dovecot.service"}}
			a.Endpoints = []string{"127.0.0.1:25", "[::1]:993"}
		}, func(c configs.Certificate) bool {
			return len(c.Deploy) == 2 && c.Deploy[0].Kind == postfix && c.Deploy[1].Kind == dovecot && slices.Equal(c.Verify.Endpoints, []string{"127.0.0.1:25", "[::1]:993"})
		}},
		{"the same files", func(a *Answers) {
			a.Targets = []Target{{Kind: postfix, Pairs: onePair("/srv/mx.crt", "/srv/mx.key")}, {Kind: dovecot, Pairs: onePair("/srv/mx.crt", "/srv/mx.key")}}
		}, func(c configs.Certificate) bool { return len(c.Deploy) == 2 }},
		{"two keys", func(a *Answers) {
			a.Keys = []string{"ec256", "rsa2048"}
			a.Targets = []Target{{Kind: postfix, Pairs: newPairs(postfix, a.Keys)}, {Kind: dovecot, Pairs: newPairs(dovecot, a.Keys)}}
		}, func(c configs.Certificate) bool {
			return slices.Equal(c.Keys, []string{"ec256", "rsa2048"}) && c.Deploy[0].Combined == "/var/lib/mxcert-keys/mx.{key}.pem" && slices.Equal(c.Deploy[1].PrivateKey, []string{"/var/lib/mxcert-keys/mx.ec256.key", "/var/lib/mxcert-keys/mx.rsa2048.key"})
		}},
		{"odd paths", func(a *Answers) { a.Targets[0].Pairs = onePair("/srv/a b: #.crt", "/srv/a b: #.key") }, func(c configs.Certificate) bool { return c.Deploy[0].Certificate[0] == "/srv/a b: #.crt" }},
		{"binding", func(a *Answers) { a.Directory, a.EABKeyID, a.EABKey = "zerossl", "kid", "very-secret" }, func(configs.Certificate) bool { return true }},
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
			if _, err := d.Write(path, false); err != nil {
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
		"path":         func(a *Answers) { a.Targets[0].Pairs[0].Certificate = "relative.crt" },
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
		if _, err := d.Write(path, false); err != nil {
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
	if _, err := d.Write(filepath.Join(file, "mxcert.yaml"), false); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v", err)
	}
}
