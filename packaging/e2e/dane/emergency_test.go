package dane

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// serials are the serial numbers of the certificates of a site, as status says.
func (w *town) serials(s *site) (serials []string) {
	w.t.Helper()
	var all struct {
		Certificates []struct{ Keys []struct{ Serial string } }
	}
	w.check(json.Unmarshal([]byte(w.mxcert(w.t.Context(), "status", s.name, "--json").Stdout), &all))
	for _, c := range all.Certificates {
		for _, k := range c.Keys {
			serials = append(serials, k.Serial)
		}
	}
	return serials
}

// revoked reports what the authority says of a certificate.
func (w *town) revoked(serial string) string {
	w.t.Helper()
	client, err := w.Mail.HTTPClient(mailhost.CAFile)
	w.check(err)
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, mailhost.ManagementURL+"/cert-status-by-serial/"+serial, nil)
	w.check(err)
	answer, err := client.Do(request)
	w.check(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	w.check(err)
	return string(text)
}

// The three forms of an emergency: with a next key that went through its hold, no mail is deferred; with one that did not, and with a third
// key, mxcert does nothing until somebody agrees. In each, the key is another afterwards, the record of the leaked one is gone, and its
// certificate is revoked.
func TestEmergency(t *testing.T) {
	t.Parallel()
	s := &site{name: "leak"}
	w := newTown(t, s)
	w.install()
	w.must("systemctl", "start", "mxcert")
	w.check(w.awaitSteady(t.Context(), s, startLimit))
	w.check(w.awaitHeld(t.Context(), s, rollLimit))
	w.must("mxcert", "tlsa", "publish", s.name) // a pass, which forgets what nobody holds
	// From here on, nothing is held before tomorrow that is not held now.
	s.hold = "24h"
	w.configure()
	w.must("systemctl", "reload", "mxcert")
	after := func(ctx context.Context, t *testing.T, before map[string]string, serials []string) {
		t.Helper()
		err := w.await(ctx, rollLimit, s, func() string {
			now, err := w.keys(s)
			if err != nil || now["ec256"] == before["ec256"] {
				return "the leaked key is still served"
			}
			return w.gone(s, before["ec256"])
		})
		if err != nil {
			t.Error(err)
		}
		for _, serial := range serials {
			if text := w.revoked(serial); !strings.Contains(text, `"Revoked"`) || !strings.Contains(text, `"Reason":1`) && !strings.Contains(text, `"Reason": 1`) {
				t.Errorf("the certificate with the leaked key: %s", text)
			}
		}
	}
	t.Run("next is held", func(t *testing.T) {
		w.check(w.awaitHeld(t.Context(), s, rollLimit))
		before, err := w.keys(s)
		w.check(err)
		serials := w.serials(s)
		began := time.Now()
		done := w.during(t, func(ctx context.Context) {
			wait(ctx, 2*time.Second)
			if r := w.mxcert(ctx, "tlsa", "roll", s.name, "--emergency", "--yes"); r.Code != 0 {
				t.Errorf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
			after(ctx, t, before, serials)
		})
		w.judge(t, done)
		figure(t, "%s, in %.0f s", done, time.Since(began).Seconds())
	})
	for _, c := range []struct {
		name  string
		flags []string
	}{{"next is not held", nil}, {"a third key", []string{"--fresh"}}} {
		t.Run(c.name, func(t *testing.T) {
			w.check(w.awaitSteady(t.Context(), s, rollLimit)) // the next key is published
			before, err := w.keys(s)
			w.check(err)
			serials := w.serials(s)
			arguments := slices.Concat([]string{"tlsa", "roll", s.name, "--emergency"}, c.flags)
			r := w.mxcert(t.Context(), arguments...)
			if r.Code == 0 || !strings.Contains(r.Stderr+r.Stdout, "defer mail") || !strings.Contains(r.Stderr+r.Stdout, "until") {
				t.Errorf("it does not say until when mail is deferred: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
			if now, err := w.keys(s); err != nil || now["ec256"] != before["ec256"] {
				t.Errorf("the key was changed though nobody agreed: %v", err)
			}
			began := time.Now()
			r = w.mxcert(t.Context(), append(arguments, "--yes")...)
			if r.Code != 0 {
				t.Errorf("exit status %d", r.Code)
			}
			t.Log(r.Stdout, r.Stderr)
			after(t.Context(), t, before, serials)
			figure(t, "in %.0f s", time.Since(began).Seconds())
		})
	}
	if err := w.awaitSteady(t.Context(), s, rollLimit); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Log(w.Mail.Diagnose())
	}
}
