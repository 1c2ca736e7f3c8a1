package pass

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// The stories of this room wait more than they compute: more of them can run at once.
func TestMain(m *testing.M) {
	if config := os.Getenv(killEnv); config != "" {
		passAndDie(config)
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// What commands and the daemon ask of a pass.
var (
	renew       = Options{}
	atOnce      = Options{Force: true}
	newKey      = Options{NewKey: true}
	deployOnly  = Options{DeployOnly: true}
	shorter     = Options{DeployOnly: true, Shorter: true}
	rollback    = Options{Rollback: true}
	dryRun      = Options{DryRun: true}
	dryRollback = Options{DryRun: true, Rollback: true}
	byDaemon    = Options{Daemon: true}
)

// host is a mail world, a configuration and a state directory to make passes with.
type host struct {
	*lab.Lab
	t      testing.TB
	config string
	drift  Drift // beside the next passes; nil for that of a one-shot

	mu   sync.Mutex
	said []string // the progress of the last pass, "stage: message"

	heed func(stage string) // called for each step of a pass; nil: nobody listens
}

func newHost(t testing.TB, options lab.Options, config lab.ConfigOptions) *host {
	t.Helper()
	l := lab.New(t, options)
	h := &host{Lab: l, t: t, config: l.WriteConfig(t, config)}
	return h
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

func (h *host) write(text string) {
	h.t.Helper()
	h.check(os.WriteFile(h.config, []byte(text), 0o600))
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

// put writes a file below the lab's directory.
func (h *host) put(name, text string) {
	h.t.Helper()
	h.check(os.WriteFile(h.Path(name), []byte(text), 0o600))
}

// hook writes an executable. $lab is the lab's directory.
func (h *host) hook(name, script string) {
	h.t.Helper()
	path := h.Path("hooks", name)
	h.check(os.MkdirAll(filepath.Dir(path), 0o755))
	h.check(os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\nlab='%s'\n%s\n", h.Directory, script), 0o755))
}

// wants is what the configuration says now.
func (h *host) wants() *wanted.Host {
	h.t.Helper()
	config, err := configs.Load(h.config)
	h.check(err)
	wants, err := wanted.From(config)
	h.check(err)
	return wants
}

// want is the lab's certificate.
func (h *host) want() wanted.Certificate {
	h.t.Helper()
	return h.wants().Certificates[0]
}

// store opens the state directory.
func (h *host) store() *state.Book {
	h.t.Helper()
	store, err := state.Open(disk.Open(h.Path("state")))
	h.check(err)
	return store
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

func (h *host) slot(key bundle.KeyType) state.Slot {
	h.t.Helper()
	record := h.record()
	return *record.Slot(key)
}

// remember changes the record behind the passes' backs.
func (h *host) remember(change func(*state.Record)) {
	h.t.Helper()
	record := h.record()
	change(&record)
	h.check(h.lineage().Save(record))
}

// runner is what a process with the configuration as it is now would make passes with.
func (h *host) runner() *Runner {
	h.t.Helper()
	r, err := New(h.wants(), h.store(), "0.0.0-dev")
	h.check(err)
	h.t.Cleanup(r.Close)
	r.Drift = h.drift
	return r
}

// say remembers the progress.
func (h *host) say(stage, message string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, stage+": "+message)
	if h.heed != nil {
		h.heed(stage)
	}
}

// heard reports whether the last pass said so.
func (h *host) heard(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Contains(strings.Join(h.said, "\n"), text)
}

// run makes one pass as a process of its own would: the configuration is read again, and only the disk remembers.
func (h *host) run(ctx context.Context, options Options) report.Certificate {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	r := h.runner()
	h.mu.Lock()
	h.said = nil
	h.mu.Unlock()
	if options.Asked.IsZero() && (options.Force || options.NewKey) {
		options.Asked = time.Now()
	}
	return r.Run(ctx, r.Host.Certificates[0], options, h.say)
}

// pass makes one pass; the exit code must be the wanted one.
func (h *host) pass(code report.Code, options Options) report.Certificate {
	h.t.Helper()
	c := h.run(context.Background(), options)
	if c.Code != code {
		h.t.Fatalf("the exit code of %+v is %d, want %d: %+v, %+v", options, c.Code, code, c, c.Error)
	}
	return c
}

// look is what status finds; the exit code must be the wanted one.
func (h *host) look(code report.Code) report.Certificate {
	h.t.Helper()
	c := Look(h.t.Context(), &helper.Looker{}, h.want(), h.lineage())
	if c.Code != code {
		h.t.Fatalf("the exit code of a look is %d, want %d: %+v, %+v", c.Code, code, c, c.Error)
	}
	return c
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

// events lists the history.
func (h *host) events() (list []string) {
	h.t.Helper()
	for _, e := range h.record().Events {
		list = append(list, e.Event)
	}
	return list
}

// generationsOf lists the directories of stored certificates, oldest first.
func (h *host) generationsOf(key bundle.KeyType) (list []string) {
	h.t.Helper()
	all, err := h.lineage().Generations()
	h.check(err)
	for _, g := range all {
		if g.Key == key {
			list = append(list, h.lineage().Directory(g.ID))
		}
	}
	return list
}

// file reads a deployed file.
func (h *host) file(name string) string {
	h.t.Helper()
	text, err := os.ReadFile(h.Path("tls", name))
	h.check(err)
	return string(text)
}

// served is the serial number in the file.
func (h *host) served() string {
	h.t.Helper()
	chain, err := bundle.ParseChain([]byte(h.file("mx.crt")))
	h.check(err)
	return bundle.SerialOf(chain[0])
}

// reloadWhenChanged is the reload by an operator, or by a server that watches its files.
func (h *host) reloadWhenChanged(before string) {
	for h.t.Context().Err() == nil {
		now, err := os.ReadFile(h.Path("tls", "mx.crt"))
		if err == nil && string(now) != before {
			_ = h.SMTP.Reload() // what it cannot load, the handshakes show
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// fault is an error with the answers of a room's.
type fault struct {
	text, stage, kind  string
	temporary, charged bool
	wait               time.Duration
}

func (f *fault) Error() string       { return f.text }
func (f *fault) Stage() string       { return f.stage }
func (f *fault) Kind() string        { return f.kind }
func (f *fault) Temporary() bool     { return f.temporary }
func (f *fault) ChargedToCA() bool   { return f.charged }
func (f *fault) Wait() time.Duration { return f.wait }

var errBoom = errors.New("boom")
