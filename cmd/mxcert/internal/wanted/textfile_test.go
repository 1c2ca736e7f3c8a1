package wanted_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// textfileSaid returns what the check says about a textfile: its faults, and what is only doubtful.
func textfileSaid(t *testing.T, state, file string) (fault, doubt string) {
	t.Helper()
	text := fmt.Sprintf("acme: {agree_tos: true}\ndns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: 192.0.2.53}}\nstate: %s\ncertificates:\n  - name: mx\n    domains: [mx.example.org]\n    deploy: [{files: {combined: /srv/mx.pem}}]\nmetrics:\n  textfile: %s\n", state, file)
	config, err := configs.Parse("mxcert.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range wanted.CheckFiles(config) {
		if fault = p.Message; p.Line != 9 || p.Hint == "" {
			t.Errorf("%+v", p)
		}
	}
	for _, p := range wanted.Warnings(config) {
		if strings.HasPrefix(p.Message, "metrics.textfile: ") {
			doubt = p.Message
		}
	}
	if _, err := wanted.From(config); err != nil {
		t.Errorf("the daemon does not start: %v", err)
	}
	return fault, doubt
}

// The check finds a textfile that cannot be written, with its line in mxcert.yaml. The daemon starts all the same.
func TestTextfile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	state := filepath.Join(dir, "state")
	write(state, 0o700)
	write(filepath.Join(dir, "open"), 0o755)
	write(filepath.Join(dir, "taken", "mxcert.prom"), 0o755)
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ file, fault, doubt string }{
		{dir + "/open/mxcert.prom", "", ""},
		{dir + "/missing/mxcert.prom", "does not exist", ""},
		{"/var/cache/mxcert-of-a-test/mxcert.prom", "", "does not exist"}, // the service makes it when it starts
		{dir + "/file/mxcert.prom", "is not a directory", ""},
		{dir + "/taken/mxcert.prom", "is a directory", ""},
	} {
		fault, doubt := textfileSaid(t, state, tt.file)
		if (fault == "") != (tt.fault == "") || !strings.Contains(fault, tt.fault) || (doubt == "") != (tt.doubt == "") || !strings.Contains(doubt, tt.doubt) {
			t.Errorf("%s: fault %q, doubt %q", tt.file, fault, doubt)
		}
	}
}

// Root finds out what the owner of the state may write.
func TestTextfileOfTheService(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal("this test needs root")
		}
		t.Skip("this test needs root")
	}
	const service, group, other = 65534, 65534, 1 // nobody
	dir := t.TempDir()
	state, target := filepath.Join(dir, "state"), filepath.Join(dir, "target")
	for _, path := range []string{state, target} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(state, service, group); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		uid, gid int
		mode     os.FileMode
		may      bool
	}{
		{service, other, 0o755, true}, {service, other, 0o555, false}, {service, other, 0o677, false},
		{other, group, 0o775, true}, {other, group, 0o757, false},
		{other, other, 0o757, true}, {other, other, 0o755, false}, {0, 0, 0o777, true},
	} {
		if err := os.Chown(target, tt.uid, tt.gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(target, tt.mode); err != nil {
			t.Fatal(err)
		}
		fault, _ := textfileSaid(t, state, filepath.Join(target, "mxcert.prom"))
		if (fault == "") != tt.may || !tt.may && !strings.Contains(fault, "may not write to "+target) {
			t.Errorf("%+v: %q", tt, fault)
		}
	}
	// A file system that is read-only.
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "ro", "tmpfs", target).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.Background(), "umount", target).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	if fault, _ := textfileSaid(t, state, filepath.Join(target, "mxcert.prom")); !strings.Contains(fault, "read-only") {
		t.Errorf("a read-only file system: %q", fault)
	}
}
