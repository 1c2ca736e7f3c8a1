package cli

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// serviceUser stands for the user of the service.
const serviceUser = 65534

// walled is a host whose state belongs to the service's user, and whose commands run in processes of their own.
type walled struct{ *host }

// newWalled returns such a host after a first renewal that root has started. Only root can give files away.
func newWalled(t *testing.T) walled {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal("MXCERT_TEST_REQUIRE=1, and this is not root")
		}
		t.Skip("only root can give files to another user")
	}
	w := walled{newHost(t, lab.Options{}, lab.ConfigOptions{})}
	w.check(os.MkdirAll(w.Path("hooks"), 0o755))
	for dir := w.Path("hooks"); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		w.check(os.Chmod(dir, 0o755))
	}
	for _, dir := range []string{"state", "tls"} {
		w.check(os.MkdirAll(w.Path(dir), 0o700))
		w.give(w.Path(dir))
	}
	for _, file := range []string{"ca.pem", "roots.pem"} {
		w.check(os.Chmod(w.Path(file), 0o644))
	}
	w.check(os.Chmod(w.Path("credentials", "tsig"), 0o600)) // which the service cannot read
	w.check(os.Chmod(w.config, 0o600))                      // nor this
	if got := w.command("renew"); got.code != report.CodeOK {
		t.Fatalf("%+v", got)
	}
	return w
}

// give gives a tree to the service's user.
func (w walled) give(dir string) {
	w.t.Helper()
	w.check(filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, serviceUser, serviceUser)
	}))
}

// command runs one command of root, which must end in time and without a panic.
func (w walled) command(args ...string) result {
	w.t.Helper()
	exe, err := os.Executable()
	w.check(err)
	cmd := exec.CommandContext(w.t.Context(), exe, append([]string{"-c", w.config, "--timeout", "20s"}, args...)...)
	cmd.Args[0], cmd.Env = "mxcert", []string{"GORACE=" + noSleep, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, time.Second
	began := time.Now()
	if err := cmd.Run(); cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	got := result{report.Code(cmd.ProcessState.ExitCode()), stdout.String(), stderr.String()}
	if took := time.Since(began); took > time.Minute || got.code < 0 || strings.Contains(got.stderr, "goroutine ") {
		w.t.Errorf("%v: %s, exit code %d\n%s\n%s", args, took, got.code, got.stdout, got.stderr)
	}
	return got
}

// tree describes every file below a directory: kind, owner, mode and content.
func (w walled) tree(dir string) map[string]string {
	w.t.Helper()
	seen := map[string]string{}
	w.check(filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		text := fmt.Sprintf("%s %d:%d", info.Mode(), owner.Uid, owner.Gid)
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %x", sha256.Sum256(content))
		}
		seen[path] = text
		return nil
	}))
	return seen
}

// ownsAll checks that every file of the state belongs to its owner.
func (w walled) ownsAll() {
	w.t.Helper()
	for path, text := range w.tree(w.Path("state")) {
		if !strings.Contains(text, fmt.Sprintf(" %d:%d", serviceUser, serviceUser)) {
			w.t.Errorf("%s is %s", path, text)
		}
	}
}

// Root's commands do their work as the owner of the state: what they make belongs to the owner, and what root alone may read of the
// configuration, they have read before.
func TestRootBecomesTheOwnerOfTheState(t *testing.T) {
	t.Parallel()
	w := newWalled(t)
	for _, args := range [][]string{{"renew", "--now", "--new-key"}, {"status"}, {"history"}, {"verify"}, {"renew", "--dry-run"}, {"deploy", "mx"}, {"rollback", "mx"}, {"account", "show"}} {
		if got := w.command(args...); got.code != report.CodeOK {
			t.Errorf("%v: exit code %d\n%s%s", args, got.code, got.stdout, got.stderr)
		}
	}
	w.ownsAll()
	// What is taken over may be root's alone.
	donor, tree := w.current(), w.Path("lego")
	w.check(os.MkdirAll(filepath.Join(tree, "certificates"), 0o700))
	for name, text := range map[string][]byte{"mx.key": donor.KeyPEM(), "mx.crt": donor.FullchainPEM(), "mx.json": []byte(`{"certUrl": "https://ca.example.org/1"}`)} {
		w.check(os.WriteFile(filepath.Join(tree, "certificates", name), text, 0o600))
	}
	w.check(os.RemoveAll(w.Path("state")))
	w.check(os.Mkdir(w.Path("state"), 0o700))
	w.give(w.Path("state"))
	if got := w.command("import", "lego", tree, "--directory", w.CA.DirectoryURL()); got.code != report.CodeOK {
		t.Errorf("import: exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	w.ownsAll()
	if got := w.command("renew"); got.code != report.CodeOK {
		t.Errorf("renew after an import: exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}

	// What the owner may not do, root's command may not do there either.
	w.check(os.Chown(w.Path("tls"), 0, 0))
	w.check(os.Chmod(w.Path("tls"), 0o755))
	if got := w.command("renew", "--now"); got.code == report.CodeOK || !strings.Contains(got.stdout+got.stderr, "permission denied") {
		t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

// Whoever owns the state puts links in the place of its parts. No command of root's reads, changes or makes anything where they lead.
func TestLinksInTheStateLeadRootNowhere(t *testing.T) {
	t.Parallel()
	w := newWalled(t)
	precious := w.Path("precious")
	w.check(os.Mkdir(precious, 0o700))
	for _, name := range []string{"record.json", "meta.json", "account.json", ".tmp-1", "fullchain.pem", "privkey.pem", "daemon.json", "1"} {
		w.check(os.WriteFile(filepath.Join(precious, name), []byte("{}"+name), 0o600))
	}
	w.check(os.Mkdir(filepath.Join(precious, ".tmp-2"), 0o700))
	before := w.tree(precious)
	commands := [][]string{{"renew"}, {"renew", "--now"}, {"deploy", "mx"}, {"rollback", "mx"}, {"status"}, {"doctor"}, {"history"}, {"verify"}, {"account", "show"},
		{"account", "register"}, {"renew", "--dry-run"}, {"revoke", "mx", "--yes", "--reason", "superseded"}}
	for _, part := range []string{"lineages", "lineages/mx", "lineages/mx/displaced", "lineages/mx/generations", "accounts", "orders", "journal", "daemon.json", "running.yaml", "lineages/mx/record.json"} {
		path := w.Path("state", part)
		aside := path + ".real"
		err := os.Rename(path, aside)
		w.check(os.Symlink(precious, path))
		w.check(os.Lchown(path, serviceUser, serviceUser))
		for _, args := range commands {
			w.command(args...)
			if after := w.tree(precious); !maps.Equal(before, after) {
				t.Fatalf("%s, %v: before %v\nafter %v", part, args, before, after)
			}
		}
		w.check(os.RemoveAll(path))
		if err == nil {
			w.check(os.Rename(aside, path))
		}
	}
	w.ownsAll()
}
