package daemon

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/doctor"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

const (
	// testRelease is the version of the program under test.
	testRelease = "0.0.0-dev"
	// serviceOf is the variable that makes this binary a service with that configuration file.
	serviceOf = "MXCERT_TEST_SERVICE"
)

// TestMain lets this binary be a service: what it tells systemd and how it takes signals concerns a whole process. The tests wait
// more than they compute, so that more of them run at once than there are processors.
func TestMain(m *testing.M) {
	if file := os.Getenv(serviceOf); file != "" {
		os.Exit(service(file))
	}
	if err := flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// transcript is the log of a daemon.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// has reports whether one line of the log has all the texts.
func (l *transcript) has(texts ...string) bool {
	for line := range strings.Lines(l.String()) {
		found := true
		for _, text := range texts {
			found = found && strings.Contains(line, text)
		}
		if found {
			return true
		}
	}
	return false
}

func (l *transcript) count(text string) int { return strings.Count(l.String(), text) }

// newDaemon returns a daemon that logs everything.
func newDaemon(configFile string, log io.Writer) *Daemon {
	level := &slog.LevelVar{}
	level.Set(slog.LevelDebug)
	return New(Options{ConfigFile: configFile, Release: testRelease, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level})), Level: level,
		LogLevel: "debug", Load: func() (*configs.Config, error) { return configs.Load(configFile) }, Provider: doctor.Provider})
}

// host is a mail world and a configuration to run daemons with.
type host struct {
	*lab.Lab
	t      testing.TB
	config string
}

func newHost(t testing.TB, options lab.Options, config lab.ConfigOptions) *host {
	t.Helper()
	l := lab.New(t, options)
	return &host{Lab: l, t: t, config: l.WriteConfig(t, config)}
}

// check ends the test when preparing it failed.
func (h *host) check(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) text() string {
	h.t.Helper()
	text, err := os.ReadFile(h.config)
	h.check(err)
	return string(text)
}

// write replaces the configuration as an editor does: a daemon never reads half of it.
func (h *host) write(text string) {
	h.t.Helper()
	h.check(os.WriteFile(h.config+".new", []byte(text), 0o600))
	h.check(os.Rename(h.config+".new", h.config))
}

// edit replaces text in the configuration; what is not there to be replaced is a mistake of the test.
func (h *host) edit(old, replacement string) {
	h.t.Helper()
	text := h.text()
	if !strings.Contains(text, old) {
		h.t.Fatalf("the configuration has no %q:\n%s", old, text)
	}
	h.write(strings.Replace(text, old, replacement, 1))
}

// hook writes an executable. $lab is the lab's directory.
func (h *host) hook(name, script string) {
	h.t.Helper()
	path := h.Path("hooks", name)
	h.check(os.MkdirAll(filepath.Dir(path), 0o755))
	h.check(os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\nlab='%s'\n%s\n", h.Directory, script), 0o755))
}

// loaded is the configuration as the files are now.
func (h *host) loaded() *configs.Config {
	h.t.Helper()
	config, err := configs.Load(h.config)
	h.check(err)
	return config
}

// wants is what the configuration says now.
func (h *host) wants() *wanted.Host {
	h.t.Helper()
	wants, err := wanted.From(h.loaded())
	h.check(err)
	return wants
}

// storeAt opens a state directory.
func storeAt(t testing.TB, path string) *state.Book {
	t.Helper()
	store, err := state.Open(disk.Open(path))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func (h *host) store() *state.Book {
	h.t.Helper()
	return storeAt(h.t, h.Path("state"))
}

// lineage is what is stored of the lab's certificate.
func (h *host) lineage() *state.Lineage {
	h.t.Helper()
	return h.store().Lineage("mx")
}

func (h *host) record() state.Record {
	h.t.Helper()
	record, _, err := h.lineage().Look()
	h.check(err)
	return record
}

// events counts those of a kind in the history.
func (h *host) events(kind string) (n int) {
	h.t.Helper()
	for _, e := range h.record().Events {
		if e.Event == kind {
			n++
		}
	}
	return n
}

// placed counts the orders that the CA has taken.
func (h *host) placed() (n int) {
	for _, r := range h.CA.Requests() {
		if r.Endpoint == ca.NewOrder && r.Status == http.StatusCreated {
			n++
		}
	}
	return n
}

// pass makes one pass over a certificate without the daemon, as a command does if none runs; the exit code must be the wanted one.
func (h *host) pass(code report.Code, options pass.Options) report.Certificate {
	h.t.Helper()
	c := h.passOver("mx", options)
	if c.Code != code {
		h.t.Fatalf("the exit code of %+v is %d, want %d: %+v, %+v", options, c.Code, code, c, c.Error)
	}
	return c
}

func (h *host) passOver(name string, options pass.Options) report.Certificate {
	h.t.Helper()
	runner, err := pass.New(h.wants(), h.store(), testRelease)
	h.check(err)
	defer runner.Close()
	want, _ := runner.Host.Certificate(name)
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*time.Minute)
	defer cancel()
	return runner.Run(ctx, want, options, func(string, string) {})
}

// ask has the daemon carry out an order, as a command that reads the configuration now.
func (h *host) ask(o Order) (*report.Report, error) {
	h.t.Helper()
	return h.asks(h.t.Context(), o, func(string, string, string) {})
}

func (h *host) asks(ctx context.Context, o Order, say func(certificate, stage, message string)) (*report.Report, error) {
	h.t.Helper()
	o.Asked, o.Fingerprint = time.Now(), h.wants().Fingerprint
	return Ask(ctx, h.store(), o, say)
}

// asked is ask for the lab's certificate; the exit code must be the wanted one.
func (h *host) asked(code report.Code, o Order) report.Certificate {
	h.t.Helper()
	r, err := h.ask(o)
	h.check(err)
	c := r.Certificates[0]
	if c.Code != code {
		h.t.Fatalf("the exit code of %+v is %d, want %d: %+v, %+v", o, c.Code, code, c, c.Error)
	}
	return c
}

// renew is what a command does: by the daemon if there is one, else here.
func (h *host) renew() report.Certificate {
	h.t.Helper()
	r, err := h.ask(Order{Force: true})
	if errors.Is(err, ErrNone) {
		return h.passOver("mx", pass.Options{Force: true, Asked: time.Now()})
	}
	if err != nil {
		h.t.Error(err)
		return report.Certificate{}
	}
	return r.Certificates[0]
}

// look is what status finds without asking a daemon.
func (h *host) look() report.Certificate {
	h.t.Helper()
	return pass.Look(h.t.Context(), &helper.Looker{}, h.wants().Certificates[0], h.lineage())
}

// well reports whether status has nothing to say.
func (h *host) well() bool {
	c := h.look()
	return c.Code == report.CodeOK && c.Error == nil && len(c.Warnings) == 0
}

// running is a daemon at work in this process.
type running struct {
	*Daemon
	t      testing.TB
	log    *transcript
	cancel context.CancelFunc
	ended  chan error
}

// daemon starts a daemon, and stops it at the test's end.
func (h *host) daemon() *running {
	h.t.Helper()
	return h.daemonWith(new(fakeSurvey).look)
}

// daemonWith is daemon with another way to look at mail domains as senders do.
func (h *host) daemonWith(look surveyor) *running {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: h.t, log: &transcript{}, cancel: cancel, ended: make(chan error, 1)}
	r.Daemon = newDaemon(h.config, r.log)
	r.look = look
	go func() { r.ended <- r.Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		if h.t.Failed() {
			h.t.Logf("the daemon's log:\n%s", r.log)
		}
	})
	return r
}

// stop is SIGTERM; it returns how long the way out took.
func (r *running) stop() time.Duration {
	r.t.Helper()
	start := time.Now()
	r.cancel()
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("the daemon ended with %v", err)
		}
	case <-time.After(time.Minute):
		r.t.Fatal("the daemon does not end")
	}
	return time.Since(start)
}

// awaitLog waits for a text in the log.
func (r *running) awaitLog(text string) {
	r.t.Helper()
	eventually(r.t, text+" in the log", func() bool {
		if len(r.ended) > 0 {
			r.t.Fatalf("the daemon has ended: %v", <-r.ended)
		}
		return strings.Contains(r.log.String(), text)
	})
}

// again starts a daemon after another has ended. A process that some test is just starting has a copy of the other's lock until it
// runs its program.
func (h *host) again() *running {
	h.t.Helper()
	return h.againWith(new(fakeSurvey).look)
}

func (h *host) againWith(look surveyor) *running {
	h.t.Helper()
	for range 600 {
		d := h.daemonWith(look)
		eventually(h.t, "the start of a daemon", func() bool { return len(d.ended) > 0 || d.log.String() != "" })
		if len(d.ended) == 0 {
			return d
		}
		if err := <-d.ended; report.CodeOf(err) != report.CodeTemporary {
			h.t.Fatalf("the daemon has ended: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	h.t.Fatal("the lock of the daemon is not released")
	return nil
}

// eventually waits until something has happened.
func eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("this does not happen: %s", what)
		}
	}
}

// atRest returns a daemon with the configuration in force that does nothing by itself.
func (h *host) atRest() (*Daemon, *transcript) {
	h.t.Helper()
	log := &transcript{}
	d := newDaemon(h.config, log)
	d.status.PID = os.Getpid()
	h.t.Cleanup(func() {
		d.idle.Stop()
		w := d.current()
		w.end()
		d.tending.Wait()
		w.close()
	})
	h.check(d.take(h.loaded()))
	d.tending.Wait()
	return d, log
}

// desert is a configuration whose servers do not exist, for tests that make no pass.
func desert(t *testing.T) *host {
	t.Helper()
	dir := t.TempDir()
	h := &host{Lab: &lab.Lab{Directory: dir}, t: t, config: filepath.Join(dir, "mxcert.yaml")}
	h.write(fmt.Sprintf(`acme: {agree_tos: true, directory: "https://127.0.0.1:1/directory"}
dns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "127.0.0.1:1"}, resolvers: ["127.0.0.1:1"]}
certificates:
  - name: mx
    domains: [mx.example.org]
    deploy:
      - files: {certificate: %[1]s/mx.crt, private_key: %[1]s/mx.key, reload: never}
    verify: {endpoints: []}
state: %[1]s/state
hooks: {directory: %[1]s/hooks}
`, dir))
	return h
}

// ended is the context of work that must not start.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
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
