package wanted_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// fleetHost is a host with an identity, a client certificate and a recovery recipient.
type fleetHost struct {
	t                          *testing.T
	identity, certificate, key string // paths
	own, recovery              string
}

func newFleetHost(t *testing.T) *fleetHost {
	t.Helper()
	own, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	h := &fleetHost{t: t, identity: filepath.Join(dir, "age"), certificate: filepath.Join(dir, "etcd.pem"), key: filepath.Join(dir, "etcd.key"),
		own: own.Recipient().String(), recovery: recovery.Recipient().String()}
	h.write(h.identity, "# created: 2026-01-01T00:00:00Z\n# public key: "+h.own+"\n"+own.String()+"\n", 0o600)
	h.client("mx1", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	return h
}

func (h *fleetHost) write(path, text string, mode os.FileMode) {
	h.t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		h.t.Fatal(err)
	}
}

// client writes a client certificate.
func (h *fleetHost) client(name string, from, until time.Time) {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		h.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(h.certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o600)
	h.write(h.key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), 0o600)
}

// text is a configuration, with changes: old and new text in turn.
func (h *fleetHost) text(changes ...string) string {
	text := good + "\nfleet:\n  name: berlin\n  host: mx1\n  etcd: {endpoints: [\"https://127.0.0.1:2379\"], certificate: " + h.certificate + ", private_key: " + h.key + "}\n" +
		"  identity: \"file:" + h.identity + "\"\n  recipients: [" + h.own + ", " + h.recovery + "]\n"
	for i := 0; i+1 < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			h.t.Fatalf("the configuration has no %q", changes[i])
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	return text
}

func TestNoFleet(t *testing.T) {
	t.Parallel()
	if host := load(t, good); host.Fleet != nil {
		t.Errorf("%+v", host.Fleet)
	}
}

func TestFleetSettings(t *testing.T) {
	t.Parallel()
	h := newFleetHost(t)
	f := load(t, h.text("host: mx1", "host: MX1\n  alone: true\n  forget: 3d")).Fleet
	s, err := f.Settings()
	if err != nil || s.Name != "berlin" || s.Host != "mx1" || !s.Alone || s.Forget != 72*time.Hour || len(s.Recipients) != 2 || s.Identity != nil {
		t.Errorf("%+v, %v", s, err)
	}
	if identity, err := s.Identify(); err != nil || string(identity.Recipient()) != h.own {
		t.Errorf("%v, %v", identity, err)
	}
	if other := load(t, h.text()).Fleet; f.Fingerprint() == other.Fingerprint() || other.Fingerprint() != load(t, h.text()).Fleet.Fingerprint() {
		t.Error("the fingerprint does not tell settings apart")
	}
	if err := errors.Join(wanted.Check(config(t, h.text())), wanted.CheckFleet(config(t, h.text()))); err != nil {
		t.Error(err)
	}
}

// The name of the host is that of the machine, if that is a name of one machine.
func TestFleetHostName(t *testing.T) {
	t.Parallel()
	h := newFleetHost(t)
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	short, _, _ := strings.Cut(strings.ToLower(name), ".")
	c := config(t, h.text("  host: mx1\n", ""))
	host, err := wanted.From(c)
	if err != nil {
		t.Fatal(err)
	}
	if short == "localhost" || host.Fleet.Host == "" {
		if err := wanted.Check(c); err == nil || host.Fleet.Host != "" || !strings.Contains(err.Error(), "fleet.host: is not set") {
			t.Errorf("%q: %v", host.Fleet.Host, err)
		}
	} else if host.Fleet.Host != short {
		t.Errorf("the host is %q, not %q", host.Fleet.Host, short)
	}
}

// What only the files show: each fault at its place, with the next step, and no secret. Faults of files keep nobody from renewing, and whoever needs
// the file gets the same error.
func TestFleetFaults(t *testing.T) {
	t.Parallel()
	h := newFleetHost(t)
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identify := func(f *wanted.Fleet) error { _, err := f.Identity(); return err }
	secure := func(f *wanted.Fleet) error { _, err := f.TLS(); return err }
	typo := h.recovery[:20] + string("qp"[map[bool]int{true: 1}[h.recovery[20] == 'q']]) + h.recovery[21:]
	for _, tt := range []struct {
		what     string
		identity string // "" keeps it
		mode     os.FileMode
		changes  []string
		path     string
		says     string
		hint     string
		use      func(*wanted.Fleet) error // nil: the configuration itself is at fault
	}{
		{"an identity that everybody reads", "", 0o644, nil, "fleet.identity", "can be read by everybody on this host", "chmod 0640 " + h.identity, identify},
		{"an identity of another host", stranger.String() + "\n", 0o600, nil, "fleet.recipients", "the recipient of this host's identity", "- " + stranger.Recipient().String(), identify},
		{"no identity", "secret-of-nobody\n", 0o600, nil, "fleet.identity", h.identity, "AGE-SECRET-KEY-1", identify},
		{"a recipient with a typo", "", 0o600, []string{h.recovery, typo}, "fleet.recipients[1]", "has a typo", "age-keygen -y", nil},
		{"a public recipient in the place of the identity", h.own + "\n", 0o600, nil, "fleet.identity", "it is a recipient, the public half", "AGE-SECRET-KEY-1", identify},
		{"comments alone", "# created: never\n", 0o600, nil, "fleet.identity", "there is no identity in it", "AGE-SECRET-KEY-1", identify},
		{"roots that are not there", "", 0o600, []string{"certificate: " + h.certificate, "ca_file: /nonexistent/etcd-ca.pem, certificate: " + h.certificate}, "fleet.etcd.ca_file", "no such file", "name a PEM file", secure},
		{"roots that are none", "", 0o600, []string{"certificate: " + h.certificate, "ca_file: " + h.key + ", certificate: " + h.certificate, "private_key: " + h.key, "private_key: \"cred:etcd\""}, "fleet.etcd.ca_file", "holds no PEM certificate", "name a PEM file", secure},
	} {
		before, err := os.ReadFile(h.identity)
		if err != nil {
			t.Fatal(err)
		}
		text := tt.identity
		if text == "" {
			text = string(before)
		}
		h.write(h.identity, text, tt.mode)
		c := config(t, h.text(tt.changes...))
		if err = wanted.Check(c); tt.use != nil {
			if err != nil {
				t.Errorf("%s: it keeps this host from renewing: %v", tt.what, err)
			}
			err = wanted.CheckFleet(c)
			if use := tt.use(load(t, h.text(tt.changes...)).Fleet); use == nil || !strings.Contains(use.Error(), tt.says) {
				t.Errorf("%s: who needs it gets %v", tt.what, use)
			}
		}
		problems, ok := errors.AsType[*configs.Problems](err)
		if !ok || len(problems.List) != 1 {
			t.Errorf("%s: %v", tt.what, err)
		} else if p := problems.List[0]; p.Path != tt.path || p.Line == 0 || !strings.Contains(p.Message, tt.says) || !strings.Contains(p.Hint, tt.hint) {
			t.Errorf("%s: %+v", tt.what, p)
		}
		if err != nil && (strings.Contains(err.Error(), "AGE-SECRET-KEY-1"+stranger.String()[16:]) || strings.Contains(err.Error(), "secret-of-nobody")) {
			t.Errorf("%s: the secret is in the error: %v", tt.what, err)
		}
		h.write(h.identity, string(before), 0o600)
	}
}

// A secret that cannot be read is named; the configuration may be checked before it is in place.
func TestFleetSecretsUnreadable(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	h := newFleetHost(t)
	c := config(t, h.text("file:"+h.identity, "cred:no-such-age", h.key, `"cred:no-such-key"`))
	if err := errors.Join(wanted.Check(c), wanted.CheckFleet(c)); err != nil {
		t.Error(err)
	}
	var paths []string
	for _, p := range wanted.UnreadableSecrets(c) {
		paths = append(paths, p.Path)
	}
	if got := strings.Join(paths, " "); !strings.Contains(got, "fleet.identity fleet.etcd.private_key") {
		t.Error(got)
	}
	host, err := wanted.From(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.Fleet.Identity(); err == nil || !strings.Contains(err.Error(), "fleet.identity: secret cred:no-such-age") {
		t.Errorf("%v", err)
	}
	if _, err := host.Fleet.ClientCertificate(); err == nil || !strings.Contains(err.Error(), "fleet.etcd.private_key: secret cred:no-such-key") {
		t.Errorf("%v", err)
	}
}
