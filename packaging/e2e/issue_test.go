package e2e

import (
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// Story 1: the first certificate of a host whose Exim has none, and a second run that finds nothing to do.
func TestFirstIssueAndNothingToDo(t *testing.T) {
	t.Parallel()
	s := begin(t, options{})
	must(t, s.Host, "rm", certificateFile, keyFile)
	// The name server gives no more rights than the README says.
	named, err := s.Get("/etc/bind/named.conf")
	s.check(err)
	narrow := strings.ReplaceAll(string(named), "grant mxcert. zonesub TXT TLSA;",
		"grant mxcert. name _acme-challenge.mx.example.org. TXT; grant mxcert. name _acme-challenge.host7.example.org. TXT;")
	if narrow == string(named) {
		t.Fatalf("named.conf has another update-policy now:\n%s", named)
	}
	s.check(s.Put("/etc/bind/named.conf", []byte(narrow), 0o644))
	must(t, s.Host, "systemctl", "restart", "named")
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:53"))

	began := time.Now()
	first := s.report(0, "renew")
	figure(t, "first certificate in service after %.1f s", time.Since(began).Seconds())
	if c := first.Certificates[0]; !first.Changed || c.Stage != "served" || len(c.Endpoints) != 2 {
		t.Fatalf("the report says %+v", first)
	}
	serial := first.Certificates[0].Keys[0].Serial
	s.served(serial)
	if got := s.fileSerial(certificateFile); got != serial {
		t.Errorf("the file holds serial %s, want %s", got, serial)
	}
	names := must(t, s.Host, "openssl", "x509", "-in", certificateFile, "-noout", "-ext", "subjectAltName")
	for _, name := range []string{"DNS:mx.example.org", "DNS:host7.example.org"} {
		if !strings.Contains(names, name) {
			t.Errorf("the certificate lacks %s: %s", name, names)
		}
	}
	if m := s.mark(); m.key.Mode().Perm() != 0o640 || m.key.Owner != "root:Debian-exim" {
		t.Errorf("the key has mode %o and owner %s", m.key.Mode().Perm(), m.key.Owner)
	}
	result, err := s.Run(t.Context(), "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "cat", keyFile)
	s.check(err)
	if result.Code == 0 {
		t.Error("everybody can read the key")
	}
	s.noTXT()

	before := s.mark()
	second := s.report(0, "renew")
	if second.Changed || second.Certificates[0].Changed || second.Certificates[0].Keys[0].Serial != serial {
		t.Errorf("the second run says %+v", second)
	}
	if after := s.mark(); after.String() != before.String() {
		t.Errorf("the second run touched something:\nbefore %s\nafter  %s", before, after)
	}
	if n := s.orders(); n != 1 {
		t.Errorf("the authority saw %d orders, want 1", n)
	}
	if code := s.mxcert("verify").Code; code != 0 {
		t.Errorf("verify: exit code %d", code)
	}
}

// Story 2: a certificate is replaced under load.
func TestRenewNowUnderLoad(t *testing.T) {
	for _, way := range []string{"always", "auto"} {
		t.Run(way, func(t *testing.T) {
			s := begin(t, options{config: strings.Replace(hostConfig, "group: Debian-exim", "group: Debian-exim, reload: "+way, 1)})
			old := s.report(0, "renew").Certificates[0].Keys[0].Serial
			load := s.StartLoad(t.Context(), 4, 5*time.Millisecond, "127.0.0.1:25", "[::1]:25")
			began := time.Now()
			renewed := s.report(0, "renew", "--now")
			took := time.Since(began)
			serial := renewed.Certificates[0].Keys[0].Serial
			time.Sleep(500 * time.Millisecond) // what the reload left is to show
			counts := load.Stop()
			figure(t, "reload: %s, renewed in %.1f s under load: %s", way, took.Seconds(), counts)
			s.served(serial)
			if serial == old || !renewed.Changed {
				t.Errorf("renew --now changed nothing: %+v", renewed)
			}
			if counts.Serials[serial] == 0 || counts.Serials[old] == 0 || len(counts.Serials) != 2 {
				t.Errorf("the load saw the serials %v, want %s and then %s", counts.Serials, old, serial)
			}
			if n := counts.Handshake + counts.Unavailable + counts.Timeout + counts.Other; n != 0 {
				t.Errorf("%d sessions failed other than by a closed port: %s\n%v", n, counts, counts.Errors)
			}
			if way == "auto" && counts.Refused+counts.Reset != 0 {
				t.Errorf("Exim notices changed files by itself, and yet %d sessions were refused or reset", counts.Refused+counts.Reset)
			}
		})
	}
}

// Story 3: the administrator has broken Exim's configuration. Nothing of the renewal may reach Exim, and nothing of it
// may be lost.
func TestBrokenEximConfiguration(t *testing.T) {
	t.Parallel()
	s := begin(t, options{})
	old := s.report(0, "renew").Certificates[0].Keys[0].Serial
	good, err := s.Get("/etc/exim4/exim4.conf.localmacros")
	s.check(err)
	s.check(s.Put("/etc/exim4/exim4.conf.localmacros", append(good, "this is no = configuration\n}{\n"...), 0o644))

	failed := s.report(5, "renew", "--now").Certificates[0]
	if failed.Error == nil || failed.Error.Stage != "reload" || !strings.Contains(failed.Error.Message, "exim4.service") || failed.Error.Hint == "" {
		t.Fatalf("the error is %+v", failed.Error)
	}
	issued := failed.Keys[0].Serial
	if issued == old {
		t.Fatal("nothing was issued")
	}
	s.served(old)
	if got := s.fileSerial(certificateFile); got != old {
		t.Errorf("the file holds serial %s, want the old %s", got, old)
	}
	time.Sleep(6 * time.Second) // Exim looks at changed files by itself within 5 s
	s.served(old)
	orders := s.orders()

	s.check(s.Put("/etc/exim4/exim4.conf.localmacros", good, 0o644))
	mended := s.report(0, "renew")
	if !mended.Changed || mended.Certificates[0].Keys[0].Serial != issued {
		t.Errorf("after mending: %+v, want serial %s", mended, issued)
	}
	s.served(issued)
	if n := s.orders(); n != orders {
		t.Errorf("mending cost %d orders", n-orders)
	}
}

// Story 4: somebody overwrites or deletes what was deployed.
func TestForeignChangesAreHealed(t *testing.T) {
	t.Parallel()
	s := begin(t, options{})
	serial := s.report(0, "renew").Certificates[0].Keys[0].Serial
	orders := s.orders()
	for _, damage := range []struct{ name, script string }{
		{"certificate overwritten", "echo garbage > " + certificateFile},
		{"key deleted", "rm " + keyFile},
		{"both deleted", "rm " + certificateFile + " " + keyFile},
		{"another pair", "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other -keyout " + keyFile + " -out " + certificateFile},
		{"key readable by all", "chmod 644 " + keyFile},
		{"key unreadable for Exim", "chgrp root " + keyFile},
	} {
		must(t, s.Host, "sh", "-c", damage.script)
		healed := s.report(0, "renew")
		if !healed.Changed || healed.Certificates[0].Keys[0].Serial != serial {
			t.Errorf("%s: %+v", damage.name, healed)
		}
		s.served(serial)
		if info, err := s.Stat(keyFile); err != nil || info.Mode().Perm() != 0o640 || info.Owner != "root:Debian-exim" {
			t.Errorf("%s: the key is %+v (%v)", damage.name, info, err)
		}
	}
	if n := s.orders(); n != orders {
		t.Errorf("healing cost %d orders", n-orders)
	}
}

// Story 6: what the certificate depends on is down or wrong.
func TestFaultsOfOthers(t *testing.T) {
	s := begin(t, options{})
	serial := s.report(0, "renew").Certificates[0].Keys[0].Serial
	before := s.mark()
	// Every start of Pebble makes a new root.
	must(t, s.Host, "cp", mailhost.RootsFile, "/root/first-root.pem")
	unharmed := func(name string) {
		s.servedFrom(serial, "/root/first-root.pem")
		if after := s.mark(); after.String() != before.String() {
			t.Errorf("%s: something was touched:\nbefore %s\nafter  %s", name, before, after)
		}
	}
	fails := func(name string, code int, kinds, words string) {
		t.Helper()
		c := s.report(code, "renew", "--now").Certificates[0]
		if c.Error == nil || !strings.Contains(kinds, c.Error.Kind) || !strings.Contains(c.Error.Message, words) || c.Error.Hint == "" {
			t.Errorf("%s: the error is %+v, want one of %s with %q", name, c.Error, kinds, words)
		}
		unharmed(name)
	}
	must(t, s.Host, "systemctl", "stop", "pebble")
	fails("CA down", 75, "ca-unreachable", "connection refused")
	s.check(s.StartPebble(t.Context(), 90*24*time.Hour))

	must(t, s.Host, "systemctl", "stop", "named")
	fails("DNS down", 75, "dns-unreachable", "127.0.0.1:53")
	must(t, s.Host, "systemctl", "start", "named")
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:53"))

	s.check(s.Put("/etc/mxcert/credentials/tsig", []byte("d3Jvbmcgc2VjcmV0IHdyb25nIHNlY3JldCB3cm9uZyE=\n"), 0o600))
	fails("wrong TSIG secret", 1, "tsig", "BADSIG")
	s.check(s.Put("/etc/mxcert/credentials/tsig", []byte(s.TSIGSecret), 0o600))
	s.noTXT()

	renewed := s.report(0, "renew", "--now").Certificates[0]
	s.served(renewed.Keys[0].Serial)
	s.noTXT()
	if renewed.Keys[0].Serial == serial {
		t.Error("after mending everything nothing was renewed")
	}
}
