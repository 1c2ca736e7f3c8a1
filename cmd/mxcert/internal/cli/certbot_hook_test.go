package cli

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// documentedHook is the deploy hook in certbot's manual ("Renewing certificates"), but for the daemon's name and that
// its restart is noted.
const documentedHook = `#!/bin/sh

set -e

for domain in $RENEWED_DOMAINS; do
        case $domain in
        mx.example.org)
                daemon_cert_root=DAEMON/certs

                # Make sure the certificate and private key files are
                # never world readable, even just for an instant while
                # we're copying them into daemon_cert_root.
                umask 077

                cp "$RENEWED_LINEAGE/fullchain.pem" "$daemon_cert_root/$domain.cert"
                cp "$RENEWED_LINEAGE/privkey.pem" "$daemon_cert_root/$domain.key"

                # Apply the proper file ownership and permissions for
                # the daemon to read its certificate and key.
                chown root "$daemon_cert_root/$domain.cert" \
                        "$daemon_cert_root/$domain.key"
                chmod 400 "$daemon_cert_root/$domain.cert" \
                        "$daemon_cert_root/$domain.key"

                echo restarted >>DAEMON/log
                ;;
        esac
done
`

// TestCertbotsHookRunsUnchanged: one deploy hook, first run by certbot, then, the same file, by mxcert.
func TestCertbotsHookRunsUnchanged(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{CA: ca.Options{SkipValidation: true}}, configDefault)
	daemon := h.Path("daemon")
	h.check(os.MkdirAll(filepath.Join(daemon, "certs"), 0o700))
	h.hook("deploy.d/50-certbot", strings.ReplaceAll(documentedHook, "DAEMON", daemon))
	served := func(by string, restarts int) string {
		t.Helper()
		base := filepath.Join(daemon, "certs", "mx.example.org")
		pair, err := tls.LoadX509KeyPair(base+".cert", base+".key")
		if err != nil {
			t.Fatalf("after %s: %v", by, err)
		}
		if len(pair.Certificate) < 2 || pair.Leaf.VerifyHostname("host7.example.org") != nil {
			t.Errorf("after %s: %d certificates, names %v", by, len(pair.Certificate), pair.Leaf.DNSNames)
		}
		if info, err := os.Stat(base + ".key"); err != nil || info.Mode() != 0o400 {
			t.Errorf("after %s: the key is %v (%v)", by, info.Mode(), err)
		}
		if log, err := os.ReadFile(filepath.Join(daemon, "log")); err != nil || strings.Count(string(log), "restarted") != restarts {
			t.Errorf("after %s: restarts %q (%v)", by, log, err)
		}
		return pair.Leaf.SerialNumber.Text(16)
	}
	h.client("certbot", []string{"REQUESTS_CA_BUNDLE=" + h.Path("ca.pem")}, "certonly", "--config-dir", h.Path("letsencrypt"), "--work-dir", h.Path("work"), "--logs-dir", h.Path("logs"),
		"--server", h.CA.DirectoryURL(), "--non-interactive", "--agree-tos", "--email", "postmaster@example.org", "--no-eff-email",
		"--manual", "--preferred-challenges", "dns", "--manual-auth-hook", "/bin/true", "--manual-cleanup-hook", "/bin/true", "--deploy-hook", h.Path("hooks", "deploy.d", "50-certbot"),
		"-d", "mx.example.org", "-d", "host7.example.org")
	before := served("certbot", 1)
	c := h.report(report.CodeOK, "renew").Certificates[0]
	if after := served("mxcert", 2); after == before || !strings.EqualFold(strings.TrimLeft(c.Keys[0].Serial, "0"), after) {
		t.Errorf("the daemon has %s, certbot's was %s, mxcert's is %s", after, before, c.Keys[0].Serial)
	}
}
