package doctor

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

const testRelease = "0.0.0-dev"

// The tests wait more than they compute: more of them can run at once.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// host is a mail world and a configuration to examine.
type host struct {
	*lab.Lab
	t      *testing.T
	config string
}

func newHost(t *testing.T, options lab.Options, config lab.ConfigOptions) *host {
	t.Helper()
	l := lab.New(t, options)
	return &host{Lab: l, t: t, config: l.WriteConfig(t, config)}
}

// desert is a configuration whose servers do not exist, for tests that ask none.
func desert(t *testing.T) *host {
	t.Helper()
	dir := t.TempDir()
	h := &host{Lab: &lab.Lab{Directory: dir}, t: t, config: filepath.Join(dir, "mxcert.yaml")}
	h.check(os.WriteFile(h.config, fmt.Appendf(nil, `acme: {agree_tos: true, directory: "https://127.0.0.1:1/directory"}
dns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "127.0.0.1:1"}, resolvers: ["127.0.0.1:1"]}
certificates:
  - name: mx
    domains: [mx.example.org]
    deploy:
      - files: {certificate: %[1]s/mx.crt, private_key: %[1]s/mx.key, reload: never}
    verify: {endpoints: []}
state: %[1]s/state
hooks: {directory: %[1]s/hooks}
`, dir), 0o600))
	return h
}

func (h *host) check(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// edit replaces text in the configuration; what is not there to be replaced is a mistake of the test.
func (h *host) edit(old, replacement string) {
	h.t.Helper()
	text, err := os.ReadFile(h.config)
	h.check(err)
	if !strings.Contains(string(text), old) {
		h.t.Fatalf("the configuration has no %q:\n%s", old, text)
	}
	h.check(os.WriteFile(h.config, []byte(strings.Replace(string(text), old, replacement, 1)), 0o600))
}

func (h *host) secret(text string) {
	h.t.Helper()
	h.check(os.WriteFile(h.Path("credentials", "tsig"), []byte(text), 0o600))
}

// store is the state directory, which is not made.
func (h *host) store() *state.Book { return state.New(disk.At(h.Path("state"))) }

// doctor is one with the configuration as it is now.
func (h *host) doctor() *Doctor {
	h.t.Helper()
	config, err := configs.Load(h.config)
	h.check(err)
	wants, _ := wanted.From(config)
	settings, _ := wants.Authorities(testRelease)
	store := h.store()
	runner := &pass.Runner{Host: wants, Release: testRelease, Store: store, CAs: acme.NewAuthorities(store, settings...), Helper: &helper.Client{}}
	h.t.Cleanup(runner.Close)
	d := &Doctor{Runner: runner, Certificates: wants.Certificates, ConfigFile: h.config}
	d.Configuration, d.Secrets = wanted.Inspect(config)
	return d
}

// want is the lab's certificate.
func (h *host) want() wanted.Certificate {
	h.t.Helper()
	return h.doctor().Certificates[0]
}

func (h *host) examine(ctx context.Context) checks {
	h.t.Helper()
	return h.doctor().Examine(ctx)
}

// renew puts a certificate in service, another one if there is one.
func (h *host) renew() {
	h.t.Helper()
	config, err := configs.Load(h.config)
	h.check(err)
	wants, err := wanted.From(config)
	h.check(err)
	store, err := state.Open(disk.Open(h.Path("state")))
	h.check(err)
	runner, err := pass.New(wants, store, testRelease)
	h.check(err)
	defer runner.Close()
	if r := runner.Run(h.t.Context(), wants.Certificates[0], pass.Options{Force: true, Asked: time.Now()}, func(string, string) {}); r.Code != report.CodeOK {
		h.t.Fatalf("the renewal fails: %+v", r.Error)
	}
}

// checks are what was found.
type checks []Check

// String lists the checks for a failing test.
func (r checks) String() string {
	var text strings.Builder
	for _, c := range r {
		fmt.Fprintf(&text, "\n  %s %s [%s] %s: %s (%s)", c.Severity, c.ID, c.Certificate, c.Subject, c.Message, c.Hint)
	}
	return text.String()
}

// has reports whether a check of that ID and severity says a text, in message or hint.
func (r checks) has(id string, severity finding.Severity, says string) bool {
	for _, c := range r {
		if c.ID == id && c.Severity == severity && strings.Contains(c.Subject+" "+c.Message+" "+c.Hint, says) {
			return true
		}
	}
	return false
}

func (r checks) count(severity finding.Severity) (n int) {
	for _, c := range r {
		if c.Severity == severity {
			n++
		}
	}
	return n
}

// traces describes everything that doctor must leave as it is.
func (h *host) traces() string {
	h.t.Helper()
	var files []string
	for _, dir := range []string{"state", "tls", "hooks", "credentials"} {
		_ = filepath.Walk(h.Path(dir), func(path string, info os.FileInfo, err error) error {
			if err == nil {
				files = append(files, fmt.Sprint(path, info.ModTime(), info.Size(), info.Mode()))
			}
			return nil
		})
	}
	return fmt.Sprintf("zones %d %d\norders %d, accounts %d\n%s", h.World.Serial(lab.Zone), h.World.Serial(lab.OtherZone),
		h.CA.Count(ca.NewOrder), h.CA.Count(ca.NewAccount), strings.Join(files, "\n"))
}

// asOther does something as another user, who is not root. The thread that becomes that user ends with it.
func asOther(t *testing.T, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, otherUser, otherUser, otherUser); errno != 0 {
			t.Error(errno)
			return
		}
		do()
	}()
	<-done
}

const otherUser = 65534
