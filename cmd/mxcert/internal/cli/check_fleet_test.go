package cli

import (
	"os"
	"strings"
	"testing"

	"filippo.io/age"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// check warns of a client certificate for etcd that is not there, and asks nobody: nothing listens at the endpoint.
func TestCheckOfTheClientCertificate(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	identity, err := age.GenerateX25519Identity()
	h.check(err)
	recovery, err := age.GenerateX25519Identity()
	h.check(err)
	h.check(os.WriteFile(h.Path("credentials", "age"), []byte(identity.String()+"\n"), 0o600))
	h.write(h.Config(lab.ConfigOptions{}) + "fleet:\n  name: berlin\n  host: mx1\n  etcd: {endpoints: [\"https://127.0.0.1:1\"], certificate: " + h.Path("etcd.pem") +
		", private_key: " + h.Path("etcd.key") + "}\n  identity: \"file:" + h.Path("credentials", "age") + "\"\n  recipients: [" + identity.Recipient().String() + ", " + recovery.Recipient().String() + "]\n")
	r := document[checkReport](h, report.CodeOK, "check")
	if len(r.Warnings) != 1 || r.Warnings[0].Path != "fleet.etcd.certificate" || !strings.Contains(r.Warnings[0].Message, h.Path("etcd.pem")) || r.Warnings[0].Hint == "" || !r.OK {
		t.Errorf("%+v", r)
	}
	if got := h.run("check"); got.code != report.CodeOK || !strings.Contains(got.stderr, "etcd.pem") {
		t.Errorf("for a person: %d\n%s", got.code, got.stderr)
	}
}
