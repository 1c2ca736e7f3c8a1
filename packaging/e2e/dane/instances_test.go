package dane

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Two mxcerts that know nothing of each other serve one name, each at an address of its own. They begin as mxcert-dane(7) says: with the
// records of both published by hand at once. Then each changes its key, several times, at the same time: neither touches the records of the
// other, and no mail is deferred.
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	one := &site{name: "pair", backend: "gate"}
	other := &site{name: "other", backend: "gate", like: one}
	one.extra = "mx A 198.51.100.102\n"
	w := newTown(t, one, other)
	w.install()
	second := func() {
		text := strings.Replace(config([]*site{other}), "certificates:\n", "state: /var/lib/mxcert-b\ncertificates:\n", 1)
		w.check(w.Mail.Put("/etc/mxcert/b.yaml", []byte(text), 0o644))
	}
	both := func(ctx context.Context, arguments ...string) (text string, err error) {
		for name, conf := range map[string]string{one.name: "/etc/mxcert/mxcert.yaml", other.name: "/etc/mxcert/b.yaml"} {
			r := w.mxcert(ctx, append(append([]string{"--config", conf}, arguments...), name)...)
			if r.Code != 0 {
				return "", fmt.Errorf("mxcert %v %s: exit status %d\n%s%s", arguments, name, r.Code, r.Stdout, r.Stderr)
			}
			text += r.Stdout
		}
		return text, nil
	}
	second()
	w.configureAs(one)
	w.must("systemctl", "start", "mxcert")
	w.must("systemd-run", "-q", "--unit=mxcert-b", "-p", "Type=notify", "-p", "User=mxcert", "-p", "StateDirectory=mxcert-b", "-p", "StateDirectoryMode=0700",
		"-p", "ReadWritePaths=/var/lib/mxcert-keys", "mxcert", "--config", "/etc/mxcert/b.yaml", "run")
	var shown string
	w.check(w.await(t.Context(), startLimit, one, func() string {
		text, err := both(t.Context(), "tlsa", "show", "--format", "nsupdate")
		if err != nil || strings.Count(text, "update add") != 4 {
			return fmt.Sprintf("not every key is there: %v\n%s", err, text)
		}
		shown = text
		return ""
	}))
	var lines []string
	for line := range strings.Lines(shown) {
		if strings.HasPrefix(line, "update add") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	w.check(w.Zones.update(t.Context(), one, lines...))
	wait(t.Context(), 10*time.Second)
	one.backend, other.backend = "rfc2136", "rfc2136"
	second()
	w.configureAs(one)
	w.must("systemctl", "reload", "mxcert")
	w.must("systemctl", "kill", "--signal=HUP", "mxcert-b")
	wait(t.Context(), time.Second)
	if _, err := both(t.Context(), "tlsa", "publish", "--adopt"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	done := w.during(t, func(ctx context.Context) {
		for range 2 {
			before := map[*site]map[string]string{}
			for _, s := range w.sites {
				keys, err := w.keys(s)
				w.check(err)
				before[s] = keys
			}
			if _, err := both(ctx, "tlsa", "roll"); err != nil {
				t.Error(err)
			}
			for _, s := range w.sites {
				if err := w.await(ctx, rollLimit, one, func() string { return w.shared(s, before[s]["ec256"]) }); err != nil {
					t.Error(err)
				}
			}
		}
	})
	w.judge(t, done)
	figure(t, "%s, in %.0f s", done, time.Since(began).Seconds())
	if t.Failed() {
		t.Log(w.Mail.Diagnose())
		w.t.Log(w.must("journalctl", "-u", "mxcert-b", "--no-pager", "-n", "40"))
	}
}

// configureAs writes the configuration of one site alone.
func (w *town) configureAs(s *site) {
	w.t.Helper()
	w.check(w.Mail.Put("/etc/mxcert/mxcert.yaml", []byte(config([]*site{s})), 0o644))
	w.must("mxcert", "check")
}

// shared says what is missing after a change of the key of one of two instances: another key is served, the record of the old one is gone,
// and each of the two has its current and its next key in the set.
func (w *town) shared(s *site, before string) string {
	now, err := w.keys(s)
	if err != nil || now["ec256"] == before {
		return fmt.Sprintf("the key of %s is still served, %v", s.name, err)
	}
	if lacks := w.gone(s, before); lacks != "" {
		return lacks
	}
	for _, address := range s.servers() {
		g, err := w.give(address, s.owners()[0])
		if err != nil || strings.Count(g.set, ";") != 3 || !strings.Contains(g.set, now["ec256"]) {
			return fmt.Sprintf("%s gives %q, %v", address, g.set, err)
		}
	}
	return ""
}
