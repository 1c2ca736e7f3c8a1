package resolve_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// named serves the zones as they are in the files.
func (w *real) named(t *testing.T, port string) {
	t.Helper()
	var c strings.Builder
	fmt.Fprintf(&c, "options { directory %q; listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; pid-file none; session-keyfile none; notify no; };\ncontrols { };\n", w.dir, port)
	for zone, file := range w.files {
		fmt.Fprintf(&c, "zone %q { type primary; file %q; };\n", zone, file)
	}
	w.write(t, "named.conf", c.String())
	startServer(t, "bind9", "named", "-g", "-c", filepath.Join(w.dir, "named.conf"))
}

// knotd serves them, too.
func (w *real) knotd(t *testing.T, port string) {
	t.Helper()
	var c strings.Builder
	fmt.Fprintf(&c, "server:\n  rundir: %q\n  listen: 127.0.0.1@%s\ndatabase:\n  storage: %[1]q\nlog:\n  - target: stderr\n    any: info\nzone:\n", w.dir, port)
	for zone, file := range w.files {
		fmt.Fprintf(&c, "  - domain: %s\n    storage: %q\n    file: %s\n    zonefile-sync: -1\n", zone, w.dir, file)
	}
	w.write(t, "knot.conf", c.String())
	startServer(t, "knot", "knotd", "-c", filepath.Join(w.dir, "knot.conf"))
}

// startUnbound starts Unbound as Debian configures it, beside which port it takes and where it finds the zones. more is for its section
// "server".
func (w *real) startUnbound(t *testing.T, more string) {
	t.Helper()
	keys, err := filepath.Glob(filepath.Join(w.dir, "K.+*.key"))
	if err != nil || len(keys) != 1 {
		t.Fatalf("%q, %v", keys, err)
	}
	anchor, err := os.ReadFile(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "anchor", string(anchor))
	host, authPort, _ := strings.Cut(w.authoritative, ":")
	port := freePort(t)
	w.unbound = "127.0.0.1:" + port
	var c strings.Builder
	fmt.Fprintf(&c, "server:\n  interface: 127.0.0.1@%s\n  username: \"\"\n  chroot: \"\"\n  directory: %q\n  pidfile: \"\"\n  use-syslog: no\n  do-daemonize: no\n", port, w.dir)
	fmt.Fprintf(&c, "  trust-anchor-file: %q\n  do-not-query-localhost: no\n  do-ip6: no\n  ede: yes\n%s", filepath.Join(w.dir, "anchor"), more)
	for zone := range w.files {
		fmt.Fprintf(&c, "stub-zone:\n  name: %q\n  stub-addr: %s@%s\n", zone, host, authPort)
	}
	config := filepath.Join(w.dir, "unbound-"+port+".conf")
	w.write(t, filepath.Base(config), c.String())
	startServer(t, "unbound", "unbound", "-d", "-c", config)
	w.await(t, w.unbound, "signed.", dns.TypeSOA)
}

// await waits until a server answers.
func (w *real) await(t *testing.T, address, name string, qtype uint16) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ; ; time.Sleep(50 * time.Millisecond) {
		question := new(dns.Msg).SetQuestion(name, qtype)
		answer, _, err := new(dns.Client).ExchangeContext(ctx, question, address)
		if err == nil && len(answer.Answer) > 0 {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s does not answer: %v, %v", address, answer, err)
		}
	}
}
