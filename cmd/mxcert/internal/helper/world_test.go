package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/configs"
)

// service is the user of the service in these tests.
const service = "nobody"

// host is a directory with a configuration, files of a mail server, and both helpers: this process listens and starts them, as
// systemd does.
type host struct {
	t      testing.TB
	dir    string
	config string
	client *Client
}

func newHost(t testing.TB) *host {
	t.Helper()
	dir := t.TempDir()
	h := &host{t: t, dir: dir, config: filepath.Join(dir, "mxcert.yaml")}
	for _, d := range []string{"tls", "helper", "run", "hooks/deploy.d"} {
		h.check(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	h.check(os.Chmod(dir, 0o755))
	h.write(h.text())
	t.Setenv("STATE_DIRECTORY", h.path("helper"))
	t.Setenv("RUNTIME_DIRECTORY", h.path("run"))
	sockets, err := os.MkdirTemp("", "") // t.TempDir may be too long for a socket
	h.check(err)
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	h.client = &Client{Directory: sockets, Root: os.Geteuid()}
	for _, kind := range []Kind{Install, Hook} {
		listener, err := wire.Listen(filepath.Join(sockets, string(kind)+".sock"), 0o600)
		h.check(err)
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					_ = Serve(context.Background(), kind, h.config, service, conn)
					_ = conn.Close()
				}()
			}
		}()
	}
	return h
}

func (h *host) text() string {
	return fmt.Sprintf(`acme: {agree_tos: true, directory: "https://ca.example/directory"}
dns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "192.0.2.53:53"}}
certificates:
  - name: mx
    domains: [mx.example.org, host7.example.org]
    deploy:
      - files: {certificate: %[1]s/tls/mx.crt, private_key: %[1]s/tls/mx.key, mode: "0640", reload: never}
    verify: {endpoints: []}
state: %[1]s/state
hooks: {directory: %[1]s/hooks, timeout: 10s}
`, h.dir)
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) check(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) write(text string) {
	h.t.Helper()
	h.check(os.WriteFile(h.config, []byte(text), 0o644))
}

func (h *host) want() wanted.Certificate {
	h.t.Helper()
	config, err := configs.Load(h.config)
	h.check(err)
	wants, err := wanted.From(config)
	h.check(err)
	return wants.Certificates[0]
}

func (h *host) hook(name, script string) {
	h.t.Helper()
	h.check(os.WriteFile(h.path("hooks/"+name), []byte(script), 0o755))
}

// install calls the helper as the service does for files that it may not write.
func (h *host) install(order installOrder) (installAnswer, *conn) {
	h.t.Helper()
	c, err := h.client.dial(h.t.Context(), Install)
	h.check(err)
	h.t.Cleanup(func() { _ = c.Close() })
	var answer installAnswer
	h.check(c.ask(h.t.Context(), order, &answer))
	return answer, c
}

// plan makes a remote plan.
func (h *host) plan(b *bundle.Bundle) *remotePlan {
	h.t.Helper()
	plan := &remotePlan{ctx: h.t.Context(), name: "mx", say: func(string, string) {}}
	plan.answer, plan.conn = h.install(installOrder{Verb: verbPlan, Name: "mx", Bundles: filesOf(b)})
	h.check(plan.answer.Error.orNil())
	return plan
}

func filesOf(b *bundle.Bundle) []installFiles {
	return []installFiles{pemOf(b)}
}

// socketPair is a connection: the service's end, raw, and the helper's.
func socketPair(t *testing.T) (service *os.File, helper *wire.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	service, other := os.NewFile(uintptr(fds[0]), "service"), os.NewFile(uintptr(fds[1]), "helper")
	t.Cleanup(func() { _ = service.Close() })
	helper, err = wire.Inherit(other)
	if err = errors.Join(err, other.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = helper.Close() })
	return service, helper
}

func mustHost(t testing.TB, h *host) *wanted.Host {
	t.Helper()
	config, err := configs.Load(h.config)
	h.check(err)
	wants, err := wanted.From(config)
	h.check(err)
	return wants
}
