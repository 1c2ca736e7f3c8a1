package wanted_test

import (
	"crypto/tls"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/wanted"
)

// The client certificate is read for each connection: something else renews it.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	h := newFleetHost(t)
	f := load(t, h.text()).Fleet
	secure, err := f.TLS()
	if err != nil || secure.MinVersion < tls.VersionTLS12 || secure.InsecureSkipVerify {
		t.Fatalf("%+v, %v", secure, err)
	}
	shown := func() (string, error) {
		pair, err := secure.GetClientCertificate(&tls.CertificateRequestInfo{})
		if pair == nil {
			return "", err
		}
		return pair.Leaf.Subject.CommonName, err
	}
	if name, err := shown(); err != nil || name != "mx1" {
		t.Errorf("%s, %v", name, err)
	}
	h.client("renewed", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if name, err := shown(); err != nil || name != "renewed" {
		t.Errorf("after a renewal: %s, %v", name, err)
	}
	old, err := os.ReadFile(h.certificate)
	if err != nil {
		t.Fatal(err)
	}
	h.client("half", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	h.write(h.certificate, string(old), 0o600) // the new key beside the old certificate
	if name, err := shown(); err != nil || name != "renewed" {
		t.Errorf("in the middle of a replacement: %s, %v", name, err)
	}
	h.client("old", time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	if _, err := shown(); err == nil || !strings.Contains(err.Error(), h.certificate+" (old) expired at "+time.Now().Add(-time.Hour).UTC().Format("2006-01-02")) {
		t.Errorf("expired: %v", err)
	}
	leaf, err := f.ClientCertificate()
	if hint, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); leaf == nil || !ok || !strings.Contains(hint.Hint(), "issue a new client certificate") {
		t.Errorf("%v, %v", leaf, err)
	}
	h.client("early", time.Now().Add(time.Hour), time.Now().Add(2*time.Hour))
	if _, err := shown(); err == nil || !strings.Contains(err.Error(), "is not valid before") {
		t.Errorf("early: %v", err)
	}
}

// What mxcert check says of the client certificate, without the network: where it is, and what to do.
func TestClientValidity(t *testing.T) {
	t.Parallel()
	h := newFleetHost(t)
	valid := func(before, after time.Duration) func() {
		return func() { h.client("mx1", time.Now().Add(-before), time.Now().Add(after)) }
	}
	const day = 24 * time.Hour
	for _, tt := range []struct {
		what             string
		prepare          func()
		path, says, hint string
	}{
		{"all is well", valid(day, 60*day), "", "", ""},
		{"a short life, and most of it left", valid(time.Hour, day), "", "", ""},
		{"it ends soon", valid(100*day, 3*day), "fleet.etcd.certificate", h.certificate + " (mx1) ends at " + time.Now().Add(3*day).UTC().Format("2006-01-02"), "issue a new one"},
		{"it has expired", valid(9*day, -day), "fleet.etcd.certificate", "expired at", "issue a new client certificate"},
		{"it is not valid yet", valid(-day, 9*day), "fleet.etcd.certificate", "is not valid before", "clock"},
		{"no key", func() { valid(day, -day)(); _ = os.Remove(h.key) }, "", "", ""},
	} {
		tt.prepare()
		c := config(t, h.text())
		list := wanted.ClientValidity(c)
		if tt.path == "" {
			if len(list) > 0 {
				t.Errorf("%s: %+v", tt.what, list)
			}
			continue
		}
		if len(list) != 1 || list[0].Path != tt.path || list[0].Line == 0 || !strings.Contains(list[0].Message, tt.says) || !strings.Contains(list[0].Hint, tt.hint) {
			t.Errorf("%s: %+v", tt.what, list)
		}
		if err := wanted.Check(c); err != nil {
			t.Errorf("%s: it is no fault of the configuration: %v", tt.what, err)
		}
	}
	valid(day, 60*day)()
	if list := wanted.ClientValidity(config(t, h.text(h.key, `"cred:no-such-key"`))); len(list) > 0 {
		t.Errorf("a secret that is listed already: %+v", list)
	}
	if list := wanted.ClientValidity(config(t, good)); list != nil {
		t.Errorf("without a fleet: %+v", list)
	}
}

// At a loopback address there may be no TLS at all.
func TestPlainEtcd(t *testing.T) {
	t.Parallel()
	h := newFleetHost(t)
	f := load(t, h.text(`["https://127.0.0.1:2379"], certificate: `+h.certificate+", private_key: "+h.key, `["http://127.0.0.1:2379"]`)).Fleet
	if secure, err := f.TLS(); err != nil || secure != nil {
		t.Errorf("%+v, %v", secure, err)
	}
	if _, err := f.ClientCertificate(); err == nil {
		t.Error("a client certificate of nothing")
	}
}

// A process that is about to lose its rights keeps what it can still read.
func TestKeptClientCertificate(t *testing.T) {
	t.Parallel()
	h := newFleetHost(t)
	host := load(t, h.text())
	host.KeepSecrets()
	for _, file := range []string{h.identity, h.certificate, h.key} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	if identity, err := host.Fleet.Identity(); err != nil || string(identity.Recipient()) != h.own {
		t.Errorf("%v", err)
	}
	if leaf, err := host.Fleet.ClientCertificate(); err != nil || leaf.Subject.CommonName != "mx1" {
		t.Errorf("%v, %v", leaf, err)
	}
}
