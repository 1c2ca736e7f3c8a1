package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/configs"
)

// fuzzConfig asks for nothing from the network.
const fuzzConfig = `acme: {agree_tos: true, directory: "https://ca.example/directory"}
dns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "192.0.2.53:53"}}
certificates:
  - name: mx
    domains: [mx.example.org]
    deploy:
      - files: {certificate: %[1]s/mx.crt, private_key: %[1]s/mx.key, reload: never}
    verify: {endpoints: []}
state: %[1]s/state
`

// FuzzControlOrder sends any bytes to the control socket of a daemon, whose context has ended, so that no pass begins. The daemon always
// answers with a last line: a refusal, or a report on configured certificates.
func FuzzControlOrder(f *testing.F) {
	dir := f.TempDir()
	file := filepath.Join(dir, "mxcert.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, fuzzConfig, dir), 0o600); err != nil {
		f.Fatal(err)
	}
	config, err := configs.Load(file)
	if err != nil {
		f.Fatal(err)
	}
	host, err := wanted.From(config)
	if err != nil {
		f.Fatal(err)
	}
	runner, err := pass.New(host, storeAt(f, config.State), testRelease)
	if err != nil {
		f.Fatal(err)
	}
	d := newDaemon(file, io.Discard)
	d.helper.Directory = ""
	runner.Helper = d.helper
	d.workload = newWorkload(runner, nil)
	const mark = "FINGERPRINT" // the real one is not the same in each process that fuzzes
	for _, order := range []any{Order{Look: true, Fingerprint: mark}, Order{Look: true, Names: []string{"mx", "mx"}, Fingerprint: mark},
		Order{Names: []string{"../x"}, Look: true, Fingerprint: mark}, Order{Force: true, NewKey: true, Fingerprint: "another"}, nil, 7, []string{"mx"}, map[string]any{"look": "yes"}} {
		text, err := json.Marshal(order)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		text = bytes.ReplaceAll(text, []byte(mark), []byte(host.Fingerprint))
		var order Order
		var answer line
		if json.Unmarshal(text, &order) == nil {
			order.Look = true
			answer = d.obey(ctx, order, nil, func(line) {})
		} else {
			answer = askDaemon(t, d, text)
		}
		switch {
		case (answer.Refuse == "") == (answer.Report == nil):
			t.Errorf("%q: %+v", text, answer)
		case answer.Report == nil:
		case order.Fingerprint != host.Fingerprint || slices.ContainsFunc(answer.Report.Certificates, func(c report.Certificate) bool { return c.Name != "mx" }):
			t.Errorf("%q: a report %+v", text, answer.Report)
		}
	})
}

// askDaemon sends a line over a connection, and returns the last line of the answer.
func askDaemon(t *testing.T, d *Daemon, text []byte) (answer line) {
	t.Helper()
	near, far := connected(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.serve(context.Background(), far)
	}()
	if _, err := near.Write(append(slices.Clone(text), '\n')); err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(near).Decode(&answer); err != nil {
		t.Errorf("%q: %v", text, err)
	}
	_ = near.Close()
	<-done
	return answer
}

// connected returns both ends of a connection.
func connected(t *testing.T) (net.Conn, *wire.Conn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	listener, err := wire.Listen(filepath.Join(dir, "s"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	near, err := net.Dial("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return near, far
}

// FuzzControlAnswer lets a daemon answer anything. A command gets a report or an error, and waits no longer than the daemon lives.
func FuzzControlAnswer(f *testing.F) {
	store := storeAt(f, filepath.Join(f.TempDir(), "state"))
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = listener.Close() })
	answers := make(chan []byte, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(<-answers)
			_, _ = conn.Read(make([]byte, 4096)) // the order
			_ = conn.Close()
		}
	}()
	if err := store.SaveDaemon(report.Daemon{PID: os.Getpid(), Socket: socket}); err != nil {
		f.Fatal(err)
	}
	for _, answer := range []string{
		"", "\n", `{"report":{"certificates":[{"name":"mx","exit_code":0}]}}` + "\n", `{"certificate":"mx","stage":"order","message":"\u001b]0;x"}` + "\n" + `{"report":{}}` + "\n",
		`{"refuse":"no"}` + "\n", `{"report":null}` + "\n", `{"report":{"certificates":null,"changed":true}}` + "\n", "null\n", "[]\n", `{"report":{"certificates":[{"exit_code":-999}]}}` + "\n",
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		answers <- answer
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		said := 0
		r, err := Ask(ctx, store, Order{}, func(_, _, message string) { said += len(message) })
		if (r == nil) == (err == nil) || errors.Is(err, ErrNone) || ctx.Err() != nil {
			t.Errorf("%q: %+v, %v", answer, r, err)
		}
		if r != nil {
			_ = r.ExitCode()
		}
		if said > 4*len(answer) {
			t.Errorf("%q: %d bytes of progress", answer, said)
		}
	})
}

// FuzzRunning puts any bytes in the place of what the daemon has written about itself. Only a process that lives is taken for a daemon.
func FuzzRunning(f *testing.F) {
	store := storeAt(f, filepath.Join(f.TempDir(), "state"))
	for _, text := range []string{"", "null", "[]", `{"pid":0}`, `{"pid":-1,"socket":"/dev/null"}`, `{"pid":1,"socket":7}`, `{"pid":1,"socket":"/run/x.sock","config_error_at":null}`, `{"pid":99999999999999999999}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(store.Path(), "daemon.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := Running(store); r != nil && (r.PID <= 0 || !json.Valid(text)) {
			t.Errorf("%q: %+v", text, r)
		}
	})
}
