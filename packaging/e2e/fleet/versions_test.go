package fleet

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// upgrade has the hosts get a later mxcert one after the other: one that writes values of the next version. A host that has not got it yet
// refuses these by name, orders nothing instead, and goes on serving. A host that goes back says that it cannot, and goes on serving, too.
func (w *town) upgrade(t *testing.T) {
	before := w.serve(laterLimit, "", w.hosts...)
	later := w.laterProgram(t)
	earlier, err := w.hosts[0].Get("/usr/bin/mxcert")
	w.check(err)
	first, second, third := w.hosts[0], w.hosts[1], w.hosts[2]

	w.exchange(first, later)
	if err := w.again(t.Context(), first, []string{"renew", "--now", "mx"}); err != nil {
		t.Fatal(err)
	}
	serial := w.serve(laterLimit, before, first)
	orders := len(w.orders.list())
	for _, h := range []*host{second, third} {
		w.within(laterLimit, h.name+" refuses what a later mxcert wrote", func() error { return w.refuses(h, 3) })
		if r := w.mxcert(h, "renew", "mx"); r.Code != 0 && r.Code != 75 {
			t.Errorf("%s: exit status %d\n%s%s", h.name, r.Code, r.Stdout, r.Stderr)
		}
	}
	w.serve(laterLimit, serial, second, third)
	w.say("one of three hosts is later than the others, which go on")

	w.exchange(second, later)
	w.serve(laterLimit, before, first, second)
	w.exchange(third, later)
	if now := w.serve(laterLimit, before, w.hosts...); now != serial {
		t.Errorf("%s became %s", serial, now)
	}
	if n := len(w.orders.list()); n != orders {
		t.Errorf("%d orders became %d", orders, n)
	}
	w.within(laterLimit, "all are well", func() error { return w.well(t.Context()) })

	w.exchange(third, earlier)
	w.within(laterLimit, third.name+" refuses what a later mxcert wrote", func() error { return w.refuses(third, 75) }) // its disk has them, too
	w.serve(laterLimit, before, w.hosts...)
	w.exchange(third, later)
	w.within(laterLimit, "all are well", func() error { return w.well(t.Context()) })
	figure(t, "three hosts upgraded one after the other, and one back and forth: %d orders", len(w.orders.list())-orders)
}

// laterProgram builds mxcert with the next version of values.
func (w *town) laterProgram(t *testing.T) []byte {
	t.Helper()
	const file = "acme/fleet/envelope.go"
	source, err := filepath.Abs("../../../" + file)
	w.check(err)
	text, err := os.ReadFile(source)
	w.check(err)
	dir := t.TempDir()
	w.check(os.WriteFile(dir+"/envelope.go", []byte(replace("\nconst version = 1\n", "\nconst version = 2\n")(string(text))), 0o600))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: dir + "/envelope.go"}})
	w.check(err)
	w.check(os.WriteFile(dir+"/overlay.json", overlay, 0o600))
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-overlay", dir+"/overlay.json", "-o", dir+"/mxcert", "mxcert/cmd/mxcert")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(dir + "/mxcert")
	w.check(err)
	return program
}

// exchange gives a host another mxcert, as a package does.
func (w *town) exchange(h *host, program []byte) {
	w.t.Helper()
	w.check(h.Put("/usr/bin/mxcert", program, 0o755))
	w.must(h, "systemctl", "restart", "mxcert")
}

// refuses checks that a host says that a later mxcert wrote what it cannot read.
func (w *town) refuses(h *host, code int) error {
	r, err := h.Run(w.t.Context(), "mxcert", "fleet", "status")
	said := strings.Join(strings.Fields(r.Stdout+r.Stderr), " ")
	if err == nil && (r.Code != code || !strings.Contains(said, "later mxcert")) {
		err = fmt.Errorf("fleet status: exit status %d: %s", r.Code, said)
	}
	return err
}
