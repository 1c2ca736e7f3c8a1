package fleet

import (
	"context"
	"errors"
	"os"
	"strings"

	"mxcert/packaging/e2e/mailhost"
)

// readme is a block of the README, for these hosts.
func (w *town) readme(block string, hosts []string) string {
	w.t.Helper()
	text, err := os.ReadFile("../../../README.md")
	w.check(err)
	_, after, found := strings.Cut(string(text), "<!-- begin: "+block+" -->\n```sh\n")
	script, _, ended := strings.Cut(after, "```\n<!-- end: "+block+" -->")
	if !found || !ended {
		w.t.Fatalf("the README has no block %q", block)
	}
	return strings.ReplaceAll(script, "mx1 mx2", strings.Join(hosts, " "))
}

// A shell is a host that runs programs.
type shell interface {
	RunInput(ctx context.Context, stdin string, argv ...string) (mailhost.Result, error)
}

// run runs a script that has to succeed.
func (w *town) run(on shell, script string, environment ...string) (stdout string) {
	w.t.Helper()
	r, err := on.RunInput(w.t.Context(), script, append(append([]string{"env"}, environment...), "sh", "-ex")...)
	w.check(err)
	if r.Code != 0 {
		w.t.Fatalf("exit status %d of\n%s\n%s%s", r.Code, script, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// letIn makes the role of the fleet and a user for each host, and turns authentication on, by the commands of the README.
func (w *town) letIn(hosts ...string) {
	w.t.Helper()
	w.run(w.members[0].Host, w.readme("etcdctl", hosts), w.operator()...)
}

// operator is the environment of etcdctl for the user root.
func (w *town) operator() []string {
	return []string{"ETCDCTL_API=3", "ETCDCTL_ENDPOINTS=" + strings.Join(w.endpoints(), ","), "ETCDCTL_CACERT=/etc/etcd/ca.pem",
		"ETCDCTL_CERT=/etc/etcd/root.pem", "ETCDCTL_KEY=/etc/etcd/root.key"}
}

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
