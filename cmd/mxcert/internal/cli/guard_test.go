package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// otherLayout writes the certificate to another kind of place; DIR is where the lab's files are.
func (h *host) otherLayout(target string) {
	h.t.Helper()
	text, err := os.ReadFile(h.config)
	h.check(err)
	i := strings.Index(string(text), "files: {")
	end := i + strings.Index(string(text)[i:], "\n")
	h.write(string(text[:i]) + strings.ReplaceAll(target, "DIR", h.Path("tls")) + string(text[end:]))
}

// events counts those of a kind in the history.
func (h *host) events(kind string) (n int) {
	h.t.Helper()
	record, _, err := state.New(disk.At(h.Path("state"))).Lineage("mx").Look()
	h.check(err)
	for _, e := range record.Events {
		if e.Event == kind {
			n++
		}
	}
	return n
}

// What others do to the files is found long before the hourly pass, and put right without an order.
func TestDriftIsHealed(t *testing.T) {
	t.Parallel()
	type damage struct {
		name string
		do   func(dir string) error
	}
	for _, tt := range []struct {
		name, target string
		damages      []damage
	}{
		{"pair", "", []damage{
			{"key deleted", func(dir string) error { return os.Remove(dir + "/mx.key") }},
			{"mode", func(dir string) error { return os.Chmod(dir+"/mx.key", 0o604) }},
			{"certificate overwritten", func(dir string) error { return os.WriteFile(dir+"/mx.crt", []byte("garbage"), 0o640) }},
		}},
		{"moved", "", []damage{
			{"both moved away", func(dir string) error {
				return firstOf(os.Rename(dir+"/mx.key", dir+"/mx.key.dpkg-old"), os.Rename(dir+"/mx.crt", dir+"/mx.crt.dpkg-old"))
			}},
			{"directory made again", func(dir string) error {
				return firstOf(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o755))
			}},
		}},
		{"combined", `postfix: {combined: "DIR/chain.pem", reload: never}`, []damage{
			{"replaced", func(dir string) error {
				return firstOf(os.WriteFile(dir+"/new", []byte("garbage"), 0o640), os.Rename(dir+"/new", dir+"/chain.pem"))
			}},
		}},
		{"directory", `dovecot: {directory: "DIR/live", reload: never}`, []damage{
			{"link deleted", func(dir string) error { return os.Remove(dir + "/live") }},
			{"file of the generation", func(dir string) error { return os.Remove(dir + "/live/privkey.pem") }},
			{"generation made unreadable", func(dir string) error { return os.Chmod(dir+"/live/privkey.pem", 0o604) }},
		}},
		{"map", `exim: {combined: "DIR/{name}.{serial}.pem", sni_map: DIR/sni.map, reload: never, unchecked: true}`, []damage{
			{"map deleted", func(dir string) error { return os.Remove(dir + "/sni.map") }},
			{"map emptied", func(dir string) error { return os.Truncate(dir+"/sni.map", 0) }},
			{"file deleted", func(dir string) error {
				files, err := filepath.Glob(dir + "/mx.*.pem")
				return firstOf(err, os.Remove(files[0]))
			}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
			if tt.target != "" {
				h.otherLayout(tt.target)
			}
			d := h.daemon()
			d.awaitLog("sleeps")
			for i, damage := range tt.damages {
				h.check(damage.do(h.Path("tls")))
				eventually(t, damage.name+" is healed", func() bool { return h.events("healed") == i+1 })
				eventually(t, damage.name+" in status", func() bool {
					r, got := h.status()
					return got.code == report.CodeOK && r.Certificates[0].Stage == report.Deployed && len(r.Certificates[0].Warnings) == 0
				})
			}
			d.stop()
			if n := strings.Count(d.log.String(), "files were changed by others"); n != len(tt.damages) || h.orders() != 1 {
				t.Errorf("woken %d times for %d damages, %d orders", n, len(tt.damages), h.orders())
			}
		})
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// What the daemon writes itself is no drift, of the certificate and of others that share a map with it.
func TestOwnDeploymentsAreNoDrift(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
	layout := `exim: {combined: "DIR/{name}.{serial}.pem", sni_map: DIR/sni.map, reload: never, unchecked: true}`
	h.otherLayout(layout)
	h.edit("state: ", "  - name: other\n    domains: [\"lists.example.org\"]\n    deploy:\n      - "+strings.ReplaceAll(layout, "DIR", h.Path("tls"))+"\n    verify: {endpoints: []}\nstate: ")
	h.report(report.CodeOK, "renew")
	d := h.daemon()
	eventually(t, "both asleep", func() bool { return strings.Count(d.log.String(), "sleeps") == 2 })
	h.report(report.CodeOK, "renew", "mx", "--now")
	h.report(report.CodeOK, "renew", "other", "--now")
	h.report(report.CodeOK, "rollback", "mx")
	h.check(os.WriteFile(h.Path("tls", "something"), nil, 0o600)) // of no concern
	time.Sleep(2 * time.Second)                                   // four times the time in which a change is told
	const told = `msg="files were changed by others" certificate=`
	if log := d.log.String(); strings.Contains(log, told) {
		t.Errorf("own changes are taken for those of others:\n%s", log)
	}
	h.check(os.Remove(h.Path("tls", "sni.map")))
	d.awaitLog(told + "mx")
	d.awaitLog(told + "other")
	eventually(t, "the map is back", func() bool { _, got := h.status(); return got.code == report.CodeOK })
	d.stop()
}

// What happens to the files before the pass that wrote them has ended is seen too.
func TestDriftDuringADeployment(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
	h.hook("deploy.d/10-other", `test -e "$lab/once" || { touch "$lab/once"; chmod 604 "$lab/tls/mx.key"; }`)
	d := h.daemon()
	eventually(t, "the mode is healed", func() bool { return h.events("healed") == 1 })
	d.stop()
}

// A directory that is gone is a failure that is told; when it comes back, with its files, so does peace.
func TestDirectoryGoneForAWhile(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
	d := h.daemon()
	d.awaitLog("sleeps")
	h.check(os.Rename(h.Path("tls"), h.Path("away")))
	d.awaitLog(`msg="pass failed" certificate=mx stage=deploy`)
	h.check(os.Rename(h.Path("away"), h.Path("tls")))
	h.untilWell()
	d.stop()
	if n := h.events("healed"); n != 0 {
		t.Errorf("%d heals of files that nobody has changed", n)
	}
}
