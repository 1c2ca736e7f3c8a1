package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"mxcert/acme/fleet"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state/disk"
	"mxcert/acme/state/etcd"
	"mxcert/acme/state/etcd/etcdtest"

	"mxcert/cmd/mxcert/internal/report"
)

// candidate is a host that asks whether it can take part. No CA and no DNS is needed for that.
type candidate struct {
	t        *testing.T
	dir      string
	identity *age.X25519Identity
	recovery *age.X25519Identity
	listed   *age.X25519Identity // whose recipient stands in the configuration; nil: that of identity
	etcd     string              // settings
	more     string              // recipients
}

func newCandidate(t *testing.T, etcd string) *candidate {
	t.Helper()
	c := &candidate{t: t, dir: t.TempDir(), etcd: etcd}
	for _, to := range []**age.X25519Identity{&c.identity, &c.recovery} {
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		*to = identity
	}
	return c
}

func (c *candidate) write(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// run runs a command with the configuration of now.
func (c *candidate) run(args ...string) result {
	c.t.Helper()
	identity, listed := c.write("age", c.identity.String()+"\n"), c.identity
	if c.listed != nil {
		listed = c.listed
	}
	config := c.write("mxcert.yaml", fmt.Sprintf(`acme: {agree_tos: true, directory: "https://127.0.0.1:1/directory"}
dns: {provider: exec, env: {EXEC_PATH: /bin/true}}
certificates: [{name: mx, domains: [mx.example.org], verify: {endpoints: []}, deploy: [{files: {combined: %q}}]}]
state: %q
fleet: {name: berlin, host: mx1, etcd: {%s}, identity: "file:%s", recipients: [%s, %s%s]}
`, filepath.Join(c.dir, "mx.pem"), filepath.Join(c.dir, "state"), c.etcd, identity, listed.Recipient(), c.recovery.Recipient(), c.more))
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := Run(ctx, testRelease, append([]string{"-c", config}, args...), &stdout, &stderr)
	return result{code: report.Code(code), stdout: stdout.String(), stderr: stderr.String()}
}

// refused wants one clear error from join, with the next step, and nothing written.
func (c *candidate) refused(what string, code report.Code, keys func() []string, says, next string) {
	c.t.Helper()
	before := keys()
	got := c.run("fleet", "join", "--yes")
	text := strings.Join(strings.Fields(got.stdout+got.stderr), " ")
	if got.code != code || !strings.Contains(text, says) || !strings.Contains(text, next) {
		c.t.Errorf("%s: exit code %d, want %d with %q and %q:\n%s%s", what, got.code, code, says, next, got.stdout, got.stderr)
	}
	if after := keys(); !slices.Equal(before, after) {
		c.t.Errorf("%s: the store had %q, and has %q", what, before, after)
	}
	if _, err := os.Stat(filepath.Join(c.dir, "state")); err == nil {
		c.t.Errorf("%s: something was written to the state", what)
	}
	if strings.Contains(text, "AGE-SECRET-KEY-1") && !strings.Contains(says, "AGE-SECRET-KEY-1") {
		c.t.Errorf("%s: the identity is in the answer:\n%s", what, text)
	}
}

// keysOf lists the keys below the prefix of all fleets.
func keysOf(t *testing.T, client *clientv3.Client) func() []string {
	return func() (keys []string) {
		t.Helper()
		got, err := client.Get(t.Context(), "/mxcert/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range got.Kvs {
			keys = append(keys, string(kv.Key))
		}
		return keys
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What is wrong between this host and the cluster: certificates, roles, clusters out of reach.
func TestFleetClients(t *testing.T) {
	t.Parallel()
	ca := etcdtest.NewCA(t)
	dir := t.TempDir()
	certificate, key := ca.Files(dir, "etcd", etcdtest.Valid())
	cluster := etcdtest.Start(t, 1, func(c *embed.Config) {
		c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = certificate, key
		c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = ca.File(dir), true
	})
	admin, err := clientv3.New(clientv3.Config{Endpoints: cluster.Endpoints(), TLS: ca.Client("root", etcdtest.Valid()), Logger: zap.NewNop()})
	must(t, err)
	defer admin.Close()
	settings := func(roots, client string, span x509.Certificate) string {
		certificate, key := ca.Files(t.TempDir(), client, span)
		return fmt.Sprintf("endpoints: [%q], ca_file: %s, certificate: %s, private_key: %s", cluster.Endpoints()[0], roots, certificate, key)
	}
	roots, good := ca.File(dir), etcdtest.Valid()
	open := newCandidate(t, settings(roots, "mx1", good))
	if got := open.run("fleet", "join"); got.code != report.CodeOK || !strings.Contains(got.said(), "may also read what is outside of the prefix") || !strings.Contains(got.said(), "switch auth on") {
		t.Errorf("without roles: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	enableAuth(t, admin)
	keys := keysOf(t, admin)
	if got := open.run("fleet", "join"); got.code != report.CodeOK || strings.Contains(got.said(), "outside of the prefix") || !strings.Contains(got.said(), `is that of the user "mx1"`) || len(keys()) > 0 {
		t.Errorf("with a role: %d\n%s%s%q", got.code, got.stdout, got.stderr, keys())
	}
	past := etcdtest.Span(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
	foreign := etcdtest.NewCA(t).File(t.TempDir())
	newCandidate(t, settings(roots, "stranger", good)).refused("no role", report.CodeFault, keys, `does not permit it to the user "stranger"`, "/mxcert/v1/")
	if got := newCandidate(t, settings(roots, "stranger", good)).run("fleet", "status"); got.code != report.CodeTemporary || !strings.Contains(got.said(), "the store cannot be used since") || !strings.Contains(got.said(), `does not permit it to the user "stranger"`) || strings.Contains(got.said(), "cannot be reached") || !strings.Contains(got.said(), "etcdctl user grant-role stranger") {
		t.Errorf("the status without a role: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	newCandidate(t, settings(roots, "reader", good)).refused("a role that may only read", report.CodeFault, keys, `does not permit it to the user "reader"`, "/mxcert/v1/")
	newCandidate(t, settings(roots, "mx1", past)).refused("a client certificate that has ended", report.CodeFault, keys, "(mx1) expired at", "issue a new client certificate")
	newCandidate(t, settings(foreign, "mx1", good)).refused("members of another CA", report.CodeTemporary, keys, "certificate", "next step")
	gone := strings.Replace(settings(roots, "mx1", good), cluster.Endpoints()[0], "https://127.0.0.1:1", 1)
	newCandidate(t, gone).refused("no cluster", report.CodeTemporary, keys, "refuses the connection", "start etcd there")
}

// enableAuth makes the roles of a fleet, and one that may only read.
func enableAuth(t *testing.T, admin *clientv3.Client) {
	t.Helper()
	const prefix = "/mxcert/v1/berlin/"
	end := clientv3.GetPrefixRangeEnd(prefix)
	for user, permission := range map[string]clientv3.PermissionType{"root": -1, "stranger": -1, "mx1": clientv3.PermissionType(clientv3.PermReadWrite), "reader": clientv3.PermissionType(clientv3.PermRead)} {
		_, err := admin.UserAddWithOptions(t.Context(), user, "", &clientv3.UserAddOptions{NoPassword: true})
		must(t, err)
		if permission < 0 {
			continue
		}
		_, err = admin.RoleAdd(t.Context(), user)
		must(t, err)
		_, err = admin.RoleGrantPermission(t.Context(), user, prefix, end, permission)
		must(t, err)
		_, err = admin.UserGrantRole(t.Context(), user, user)
		must(t, err)
	}
	_, err := admin.UserGrantRole(t.Context(), "root", "root")
	must(t, err)
	_, err = admin.AuthEnable(t.Context())
	must(t, err)
}

// What is wrong between this host and the fleet: identities, names, fleets, clusters.
func TestFleetStrangers(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	admin, err := clientv3.New(clientv3.Config{Endpoints: cluster.Endpoints(), Logger: zap.NewNop()})
	must(t, err)
	defer admin.Close()
	keys := keysOf(t, admin)
	plain := fmt.Sprintf("endpoints: [%q]", cluster.Endpoints()[0])

	wrong, listed := newCandidate(t, plain), newCandidate(t, plain)
	wrong.listed = listed.identity
	wrong.refused("the identity of another host", report.CodeConfig, keys, "the recipient of this host's identity", "- "+wrong.identity.Recipient().String())

	first := newCandidate(t, plain)
	begin(t, cluster, first, "berlin", first.identity, "mx1") // another process with this identity and name is at work
	twin := newCandidate(t, plain)
	twin.more = ", " + first.identity.Recipient().String()
	twin.refused("another host with this name", report.CodeFault, keys, `has the name "mx1"`, "give each host a name of its own")
	same := newCandidate(t, plain)
	same.identity, same.recovery = first.identity, first.recovery
	same.refused("another host with this name and identity", report.CodeFault, keys, "same identity is at work", "fleet.identity")
	newCandidate(t, plain).refused("a fleet of others", report.CodeFault, keys, "does not trust its recipient", "fleet.etcd.endpoints")

	cluster.Wipe()
	hamburg := newCandidate(t, plain)
	begin(t, cluster, hamburg, "hamburg", hamburg.identity, "mx7")
	both := newCandidate(t, plain)
	both.more = ", " + hamburg.identity.Recipient().String()
	both.refused("two fleets on one prefix", report.CodeFault, keys, `holds the fleet "hamburg"`, "a prefix of its own")
	if got := both.run("fleet", "status"); got.code != report.CodeTemporary && got.code != report.CodeFault || !strings.Contains(got.stdout+got.stderr, "hamburg") {
		t.Errorf("status of another fleet: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

// begin has a host of a fleet at work below the prefix of berlin, until the test ends.
func begin(t *testing.T, cluster *etcdtest.Cluster, c *candidate, name string, identity *age.X25519Identity, host string) {
	t.Helper()
	secret, err := seal.ParseIdentity(identity.String())
	must(t, err)
	shared, err := etcd.Open(etcd.Settings{Endpoints: cluster.Endpoints(), Prefix: "/mxcert/v1/berlin/", Holder: host})
	must(t, err)
	files, err := disk.Open(filepath.Join(t.TempDir(), "state"))
	must(t, err)
	member, err := fleet.New(fleet.Settings{Name: name, Host: host, Identity: secret, Recipients: []seal.Recipient{secret.Recipient(), seal.Recipient(c.recovery.Recipient().String())}, Session: "another"},
		shared, files, slog.New(slog.DiscardHandler))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		member.Run(ctx, func([]string) {})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = shared.Close()
	})
	for range 200 {
		if list, err := shared.Many(t.Context(), []string{"host/" + host + "/alive", "host/" + host + "/seen", "hosts"}); err == nil && list[0].Revision*list[1].Revision*list[2].Revision > 0 {
			return // it has written all that it writes at its start
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s is not at work", host)
}
