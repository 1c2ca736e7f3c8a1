package fleet

import (
	"context"
	"errors"
	"strings"
)

// letIn makes the role of the fleet and a user for each host, and turns authentication on.
func (w *town) letIn(hosts ...string) {
	w.t.Helper()
	r, err := w.members[0].RunInput(w.t.Context(), strings.ReplaceAll(etcdLines, "mx1 mx2 mx3", strings.Join(hosts, " ")), "env", "ETCDCTL_API=3",
		"ETCDCTL_ENDPOINTS="+strings.Join(w.endpoints(), ","), "ETCDCTL_CACERT=/etc/etcd/ca.pem", "ETCDCTL_CERT=/etc/etcd/root.pem", "ETCDCTL_KEY=/etc/etcd/root.key", "sh", "-ex")
	w.check(err)
	if r.Code != 0 {
		w.t.Fatalf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

const etcdLines = `etcdctl user add root --no-password
etcdctl role add mxcert-berlin
etcdctl role grant-permission mxcert-berlin --prefix=true readwrite /mxcert/v1/berlin/
for host in mx1 mx2 mx3; do etcdctl user add $host --no-password; etcdctl user grant-role $host mxcert-berlin; done
etcdctl user grant-role root root
etcdctl auth enable
`

// writes reports whether the members take a write.
func (w *town) writes() error {
	r, err := w.etcdctl(w.t.Context(), "--command-timeout", "3s", "put", "/test", "x")
	if err == nil && r.Code != 0 {
		err = errors.New(r.Stdout + r.Stderr)
	}
	return err
}

// revive starts the member again if it has ended.
func (m *member) revive(ctx context.Context) error {
	if !m.process.Ended() {
		return nil
	}
	return m.start(ctx, "existing")
}
