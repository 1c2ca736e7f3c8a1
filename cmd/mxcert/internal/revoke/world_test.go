package revoke

import (
	"context"
	"flag"
	"math/big"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// The stories of this room wait more than they compute: more of them can run at once.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// host is a mail world with a configuration, in which certificates are issued and revoked.
type host struct {
	*lab.Lab
	t      *testing.T
	config string
}

func newHost(t *testing.T, options lab.Options) *host {
	t.Helper()
	l := lab.New(t, options)
	return &host{Lab: l, t: t, config: l.WriteConfig(t, lab.ConfigOptions{})}
}

func (h *host) check(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// edit replaces text in the configuration.
func (h *host) edit(old, replacement string) {
	h.t.Helper()
	text, err := os.ReadFile(h.config)
	h.check(err)
	if !strings.Contains(string(text), old) {
		h.t.Fatalf("the configuration has no %q:\n%s", old, text)
	}
	h.check(os.WriteFile(h.config, []byte(strings.Replace(string(text), old, replacement, 1)), 0o600))
}

// store opens the state directory.
func (h *host) store() *state.Book {
	h.t.Helper()
	store, err := state.Open(disk.Open(h.Path("state")))
	h.check(err)
	return store
}

// runner is what a process with the configuration as it is now would have.
func (h *host) runner() *pass.Runner {
	h.t.Helper()
	config, err := configs.Load(h.config)
	h.check(err)
	wants, err := wanted.From(config)
	h.check(err)
	r, err := pass.New(wants, h.store(), "0.0.0-dev")
	h.check(err)
	h.t.Cleanup(r.Close)
	return r
}

func quiet(string, string) {}

// renew makes a pass, which must succeed.
func (h *host) renew(options pass.Options) report.Certificate {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	r := h.runner()
	options.Asked = time.Now()
	c := r.Run(ctx, r.Host.Certificates[0], options, quiet)
	if c.Code != report.CodeOK {
		h.t.Fatalf("%+v: %+v, %+v", options, c, c.Error)
	}
	return c
}

// issue is the key types of a pass.
func (h *host) issue(options pass.Options) []report.Key {
	h.t.Helper()
	return h.renew(options).Keys
}

// revoke chooses certificates of mx and revokes them; the sum of their exit codes must be the wanted one.
func (h *host) revoke(code report.Code, choice Choice) *Report {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	r, err := Choose(ctx, h.runner(), "mx", choice)
	h.check(err)
	done, err := r.CarryOut(ctx, quiet)
	h.check(err)
	var codes []report.Code
	for _, c := range done.Certificates {
		codes = append(codes, c.Code)
	}
	if got := report.SumCodes(codes); got != code {
		h.t.Fatalf("%+v: exit code %d, want %d: %+v", choice, got, code, done)
	}
	return done
}

// revokedAs is how the CA has a certificate; -1 for not revoked.
func (h *host) revokedAs(serial string) int {
	h.t.Helper()
	number, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		h.t.Fatalf("serial %q", serial)
	}
	if reason, revoked := h.CA.Revoked(number); revoked {
		return int(reason)
	}
	return -1
}

// refuse has the CA refuse every revocation.
func (h *host) refuse(status int, kind string) {
	h.CA.SetWrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) != ca.RevokeCert {
				next.ServeHTTP(w, r)
				return
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"type": "urn:ietf:params:acme:error:` + kind + `", "detail": "so says the test"}`))
		})
	})
}

// events are those of a kind in the history.
func (h *host) events(kind string) (messages []string) {
	h.t.Helper()
	record, _, err := h.store().Lineage("mx").Look()
	h.check(err)
	for _, e := range record.Events {
		if e.Event == kind {
			messages = append(messages, e.Message)
		}
	}
	return messages
}

var (
	atOnce      = pass.Options{Force: true}
	newKey      = pass.Options{NewKey: true}
	superseded  = Choice{Reason: acme.Superseded}
	compromised = Choice{Reason: acme.KeyCompromise}
)
