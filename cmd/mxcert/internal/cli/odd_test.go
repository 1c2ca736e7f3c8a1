package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// A command of root ends, whatever the service's user puts into the state directory.
func TestCommandsWaitForNothingInTheState(t *testing.T) {
	t.Parallel()
	pipe := func(path string) error { return syscall.Mkfifo(path, 0o600) }
	zeros := func(path string) error { return os.Symlink("/dev/zero", path) }
	const config = `acme: {agree_tos: true, directory: "https://127.0.0.1:1/directory"}
dns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "127.0.0.1:1"}}
certificates:
  - name: mx
    domains: [mx.example.org]
    deploy: [{files: {certificate: %[1]s/mx.crt, private_key: %[1]s/mx.key, reload: never}}]
    verify: {endpoints: []}
state: %[1]s/state
`
	for name, put := range map[string]func(path string) error{

		"daemon.json": zeros, "lineages/mx/record.json": zeros, "running.yaml": zeros,
		"./daemon.json": pipe, "./lineages/mx/record.json": pipe, "./running.yaml": pipe, "conf.d/x.yaml": pipe, "lineages/mx": pipe,
	} {
		for broken, code := range map[string]report.Code{"": report.CodeTemporary, "misspelt: 1\n": report.CodeConfig} {
			dir := t.TempDir()
			h := &host{Lab: &lab.Lab{Directory: dir}, t: t, config: filepath.Join(dir, "mxcert.yaml")}
			h.write(fmt.Sprintf(config, dir) + broken)
			path := filepath.Join(dir, "state", name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			done := make(chan result, 1)
			go func() { done <- h.run("status") }()
			select {
			case got := <-done:
				if got.code != code && name != "lineages/mx" {
					t.Errorf("%s %q: exit code %d:\n%s%s", name, broken, got.code, got.stdout, got.stderr)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%s %q: status hangs", name, broken)
			}
		}
	}
}
