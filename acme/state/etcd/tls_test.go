package etcd

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
)

// secure is a cluster that asks for client certificates, with the CA that issued its own.
type secure struct {
	*etcdtest.Cluster
	ca *etcdtest.CA
}

func startSecure(t *testing.T) secure {
	t.Helper()
	ca := etcdtest.NewCA(t)
	dir := t.TempDir()
	certificate, key := ca.Files(dir, "etcd", etcdtest.Valid())
	return secure{etcdtest.Start(t, 1, func(c *embed.Config) {
		c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = certificate, key
		c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = ca.File(dir), true
	}), ca}
}

func (c secure) settings(client *tls.Config) Settings {
	s := room(c.Cluster)
	s.TLS = client
	return s
}

// TestCertificates: each thing that can be wrong about certificates is a reason of one line, and a next step.
func TestCertificates(t *testing.T) {
	t.Parallel()
	cluster := startSecure(t)
	foreign := etcdtest.NewCA(t)
	good := cluster.ca.Client("mx1", etcdtest.Valid())
	past := etcdtest.Span(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
	callback := func(c *tls.Config) *tls.Config {
		shown := c.Certificates[0]
		return &tls.Config{RootCAs: c.RootCAs, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil }}
	}
	for name, test := range map[string]struct {
		client    *tls.Config
		why, hint string
	}{
		"good":                 {client: good},
		"good, read again":     {client: callback(good)},
		"no certificate":       {&tls.Config{RootCAs: good.RootCAs}, "wants a client certificate, and this host has none", "fleet.etcd.certificate"},
		"expired":              {cluster.ca.Client("mx1", past), "it is valid from ", "renew the certificate in fleet.etcd.certificate"},
		"expired, read again":  {callback(cluster.ca.Client("mx1", past)), "it is valid from ", "renew the certificate in fleet.etcd.certificate"},
		"of another CA":        {trusting(foreign.Client("mx1", etcdtest.Valid()), good), "not from the CA that etcd trusts", "--trusted-ca-file"},
		"of another CA, shown": {callback(trusting(foreign.Client("mx1", etcdtest.Valid()), good)), "not from the CA that etcd", "--trusted-ca-file"},
		"unknown CA":           {trusting(good, foreign.Client("mx1", etcdtest.Valid())), "a CA that is not trusted", "fleet.etcd.ca_file"},
		"years later":          {later(good), "has a certificate that is valid from", "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, cluster.settings(test.client))
			err := s.Replace("a/b", []byte("x"))
			if test.why == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			expectAway(t, name, err, test.why)
			if e, ok := errors.AsType[*state.Error](err); ok && !strings.Contains(e.Hint(), test.hint) {
				t.Errorf("the hint is %q, not %q", e.Hint(), test.hint)
			}
		})
	}
}

// TestNameOfTheServer: the name in the endpoint has to be in the certificate, whatever else is trusted.
func TestNameOfTheServer(t *testing.T) {
	t.Parallel()
	cluster := startSecure(t)
	settings := cluster.settings(cluster.ca.Client("mx1", etcdtest.Valid()))
	settings.Endpoints = []string{"https://" + cluster.Members[0].LineAt("127.0.0.2").Address()}
	_, err := open(t, settings).Read("a/b")
	expectAway(t, "read", err, "has a certificate for other names")
}

// trusting is a client with the roots of another.
func trusting(client, other *tls.Config) *tls.Config {
	c := client.Clone()
	c.RootCAs = other.RootCAs
	return c
}

func later(client *tls.Config) *tls.Config {
	c := client.Clone()
	c.Time = func() time.Time { return time.Now().AddDate(20, 0, 0) }
	return c
}

// TestOtherServers: what is not etcd is told from etcd.
func TestOtherServers(t *testing.T) {
	t.Parallel()
	cluster := startSecure(t)
	client := cluster.ca.Client("mx1", etcdtest.Valid())
	greeter := greet(t, "220 mx1.example.org ESMTP\r\n")
	plain := strings.TrimPrefix(cluster.Endpoints()[0], "https://")
	for name, test := range map[string]struct {
		settings Settings
		why      string
	}{
		"SMTP":              {Settings{Endpoints: []string{"http://" + greeter}}, "does not speak the protocol of etcd"},
		"SMTP, by TLS":      {Settings{Endpoints: []string{"https://" + greeter}, TLS: client}, "does not speak the protocol of etcd"},
		"etcd, without TLS": {Settings{Endpoints: []string{"http://" + plain}}, "127.0.0.1:"},
		"a name of nothing": {Settings{Endpoints: []string{"https://etcd.invalid:2379"}, TLS: client}, "cannot be resolved"},
	} {
		t.Run(name, func(t *testing.T) {
			test.settings.Prefix = "/mxcert/v1/x/"
			_, err := open(t, test.settings).Read("a/b")
			expectAway(t, name, err, test.why)
		})
	}
}

// greet starts a server that says something first.
func greet(t *testing.T, text string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(text))
			defer func() { _ = conn.Close() }()
		}
	}()
	return listener.Addr().String()
}

// TestRole: a user without a role for the keys may not, and the error says who lacks what; with the role of one fleet, it may not touch another.
func TestRole(t *testing.T) {
	t.Parallel()
	cluster := startSecure(t)
	admin, err := clientv3.New(clientv3.Config{Endpoints: cluster.Endpoints(), TLS: cluster.ca.Client("root", etcdtest.Valid()), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	for _, f := range []func() error{
		func() error {
			_, err := admin.UserAddWithOptions(t.Context(), "root", "", &clientv3.UserAddOptions{NoPassword: true})
			return err
		},
		func() error { _, err := admin.UserGrantRole(t.Context(), "root", "root"); return err },
		func() error {
			_, err := admin.UserAddWithOptions(t.Context(), "mx1", "", &clientv3.UserAddOptions{NoPassword: true})
			return err
		},
		func() error { _, err := admin.RoleAdd(t.Context(), "berlin"); return err },
		func() error {
			_, err := admin.RoleGrantPermission(t.Context(), "berlin", "/mxcert/v1/berlin/", clientv3.GetPrefixRangeEnd("/mxcert/v1/berlin/"),
				clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := admin.AuthEnable(t.Context()); return err },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	place := func(fleet, user string) *Store {
		return open(t, Settings{Endpoints: cluster.Endpoints(), TLS: cluster.ca.Client(user, etcdtest.Valid()), Prefix: "/mxcert/v1/" + fleet + "/",
			Holder: user, Lease: time.Second})
	}
	refused := func(name string, err error) {
		t.Helper()
		e, ok := errors.AsType[*state.Error](err)
		if !ok || !errors.Is(err, fs.ErrPermission) || errors.Is(err, state.ErrAway) || !strings.Contains(e.Hint(), "/mxcert/v1/") {
			t.Errorf("%s: %v", name, err)
		}
	}
	all(t, place("berlin", "mx1"), refused, "grant", "renew") // leases belong to nobody
	if err := place("berlin", "mx1").Replace("a/b", nil); !strings.Contains(err.Error(), `a/b: etcd does not permit it to the user "mx1"`) {
		t.Error(err)
	}
	if _, err := admin.UserGrantRole(t.Context(), "mx1", "berlin"); err != nil {
		t.Fatal(err)
	}
	s := place("berlin", "mx1")
	unlock, err := s.Lock(t.Context(), "a/lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Replace("a/b", nil), s.Rename("a/b", "a/c"), s.Remove("a")); err != nil {
		t.Error(err)
	}
	unlock()
	all(t, place("hamburg", "mx1"), refused, "grant", "renew")
	all(t, place("berlin", "nobody"), refused, "grant", "renew")
}

// TestFileOfTheClient: if the client certificate cannot be read, the error says so in its own words.
func TestFileOfTheClient(t *testing.T) {
	t.Parallel()
	cluster := startSecure(t)
	roots := cluster.ca.Client("mx1", etcdtest.Valid()).RootCAs
	path := filepath.Join(t.TempDir(), "mx1.pem")
	client := &tls.Config{RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		_, err := os.ReadFile(path)
		return nil, err
	}}
	_, err := open(t, cluster.settings(client)).Read("a/b")
	expectAway(t, "read", err, path)
}
