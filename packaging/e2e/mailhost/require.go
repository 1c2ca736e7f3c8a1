package mailhost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Require ends a test here unless a host can be booted. MXCERT_E2E says what that means: unset, the test is skipped,
// for it is slow and works as root on the machine it runs on; 1, it is skipped when something is missing; require, a
// missing prerequisite is a failure, so that CI cannot be green without it.
func Require(t testing.TB) {
	t.Helper()
	const how = "; to run it: as root on Debian, `make e2e`, or MXCERT_E2E=require go test ./packaging/e2e/..."
	mode := os.Getenv("MXCERT_E2E")
	missing := missing()
	switch {
	case mode == "" || mode == "0":
		t.Skipf("left out: %s, a story on a real Debian mail host with systemd, Exim, BIND and Pebble%s", t.Name(), how)
	case missing != nil && mode == "require":
		t.Fatalf("MXCERT_E2E=require, and no mail host can be booted: %v", missing)
	case missing != nil:
		t.Skipf("left out: %s, a story on a real Debian mail host: %v%s", t.Name(), missing, how)
	}
}

// missing says what this machine lacks that roottree.sh cannot install.
func missing() error {
	if os.Geteuid() != 0 {
		return errors.New("not root: containers, mounts and namespaces need it")
	}
	for _, tool := range []string{"unshare", "nsenter", "flock"} { // package util-linux
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	if _, err := exec.LookPath("systemd-nspawn"); err == nil {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("no systemd-nspawn, and no apt-get to install it")
	}
	return nil
}

// RootTree makes the root tree of a release with a server, or "judges" or "etcd" (see roottree.sh), unless it is there, and returns its path. Nobody
// may write into it.
func RootTree(ctx context.Context, server string, release Release) (string, error) {
	module, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	return output(exec.CommandContext(ctx, filepath.Join(module, "packaging/e2e/roottree.sh"), server, string(release)))
}

// moduleRoot is the directory of go.mod: the go tool runs a test in a directory below it.
func moduleRoot(ctx context.Context) (string, error) {
	mod, err := output(exec.CommandContext(ctx, "go", "env", "GOMOD"))
	if err == nil && filepath.Base(mod) != "go.mod" {
		err = fmt.Errorf("the working directory is in no Go module: %q", mod)
	}
	return filepath.Dir(mod), err
}

// Build builds a command for the host, static, and returns the file's content. The file is kept, so that an unchanged
// program is not linked again; each checkout has its own.
func Build(ctx context.Context, pkg string) ([]byte, error) {
	module, err := moduleRoot(ctx)
	if err == nil {
		err = noteSources(module)
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(module))
	directory := filepath.Join(os.TempDir(), "mxcert-e2e", "bin-"+hex.EncodeToString(sum[:4]))
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, err
	}
	out := filepath.Join(directory, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "flock", directory, "go", "build", "-trimpath", "-o", out, pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if _, err := output(cmd); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// noteSources reads the module's directories, so that the go tool sees what a story depends on beside its own package,
// and does not give a cached result for a program that has changed since.
func noteSources(module string) error {
	return filepath.WalkDir(module, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && filepath.Dir(name) == module && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "dist") {
			return filepath.SkipDir
		}
		return err
	})
}

// output runs a program on this machine and returns the one line that it prints.
func output(cmd *exec.Cmd) (string, error) {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}
