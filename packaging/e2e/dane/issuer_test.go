package dane

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Mode check on a host whose records were made by hand, when the CA begins to issue with another root and intermediate: what names the issuer or
// the whole certificate alone is not replaced, and everything else goes on.
func TestAnotherIssuerBesideRecordsMadeByHand(t *testing.T) {
	t.Parallel()
	digest := func(der []byte) string { return fmt.Sprintf("%x", sha256.Sum256(der)) }
	key := func(h shake) string { return "3 1 1 " + digest(h.leaf[1]) }
	issuer := func(h shake) string { return "2 1 1 " + digest(h.chain[1]) }
	rows := []struct {
		*site
		records func(h shake) []string
		refused bool
	}{
		{&site{name: "i311"}, func(h shake) []string { return []string{key(h)} }, false},
		{&site{name: "i301"}, func(h shake) []string { return []string{"3 0 1 " + digest(h.leaf[0])} }, true},
		{&site{name: "i211"}, func(h shake) []string { return []string{issuer(h)} }, true},
		{&site{name: "iseveral"}, func(h shake) []string { return []string{issuer(h), key(h)} }, false},
		{&site{name: "istale"}, func(shake) []string { return []string{"3 1 1 " + strings.Repeat("5a", 32)} }, false},
		{&site{name: "iunusable"}, func(h shake) []string { return []string{"1 1 1 " + digest(h.leaf[1])} }, false},
	}
	var sites []*site
	for _, r := range rows {
		r.backend, r.onlyMain = "check", true
		sites = append(sites, r.site)
	}
	w := newTown(t, sites...)
	w.install()
	w.must("systemctl", "start", "mxcert-install.socket", "mxcert-hook.socket")
	w.must("install", "-d", "-m", "0700", "-o", "mxcert", "-g", "mxcert", "/var/lib/mxcert")
	if r := w.mxcert(t.Context(), "renew"); r.Code != 0 {
		t.Fatalf("renew: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	shaken := func(s *site) shake {
		h := shakeHands(w.Sender, port{address: s.address() + ":25", name: s.names()[0]}, "ec256")
		if h.failed != "" {
			t.Fatalf("%s: %s", s.name, h.failed)
		}
		return h
	}
	for _, r := range rows {
		for _, record := range r.records(shaken(r.site)) {
			w.check(w.publish(t.Context(), r.site, record))
		}
	}
	wait(t.Context(), 3*time.Second) // caches of "no records"
	// Pebble makes another root and intermediate at each start. mxcert trusts both.
	w.must("cp", "/etc/pebble/roots.pem", "/etc/pebble/before.pem")
	w.check(w.Mail.StartPebble(t.Context(), 90*24*time.Hour))
	w.must("sh", "-c", "cat /etc/pebble/before.pem >> /etc/pebble/roots.pem")
	for _, r := range rows {
		before := shaken(r.site)
		done := w.mxcert(t.Context(), "renew", r.name, "--now")
		after := shaken(r.site)
		said := strings.Join(strings.Fields(done.Stdout+done.Stderr), " ") // results are broken into lines of 80 columns
		if (done.Code == 5) != r.refused || !r.refused && done.Code != 0 {
			t.Errorf("%s: exit status %d, refused should be %v\n%s", r.name, done.Code, r.refused, said)
		}
		if changed := !slices.Equal(before.chain[1], after.chain[1]); changed == r.refused || before.spki() != after.spki() {
			t.Errorf("%s: another issuer: %v, another key: %v", r.name, changed, before.spki() != after.spki())
		}
		if r.refused && !strings.Contains(said, "TLSA 3 ") {
			t.Errorf("%s: it does not say which record to publish:\n%s", r.name, said)
		}
		finger, err := w.Sender.Run(t.Context(), "posttls-finger", "-c", "-t", "40", "-T", "40", "-l", "dane", "-L", "summary,verbose", r.domain())
		w.check(err)
		if verified := strings.Contains(finger.Stdout+finger.Stderr, "Verified TLS connection"); verified != (r.name != "istale" && r.name != "iunusable") {
			t.Errorf("%s: verified: %v\n%s%s", r.name, verified, finger.Stdout, finger.Stderr)
		}
	}
}
