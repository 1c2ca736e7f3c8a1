package dane

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Mode check on a host whose records were made by hand: a renewal with the same key, and one with a new key, beside records of each kind. What
// would turn a sender's pass into a fail is refused, says which record to publish, and changes nothing; everything else goes on.
func TestRecordsMadeByHand(t *testing.T) {
	t.Parallel()
	const (
		goes    = 0
		refused = 5
	)
	digest := func(der []byte) string { return fmt.Sprintf("%x", sha256.Sum256(der)) }
	stale := "3 1 1 " + strings.Repeat("5a", 32)
	type row struct {
		*site
		records         func(h shake) []string
		sameKey, newKey int
	}
	rows := []row{
		{&site{name: "k311"}, func(h shake) []string { return []string{"3 1 1 " + digest(h.leaf[1])} }, goes, refused},
		{&site{name: "k301"}, func(h shake) []string { return []string{"3 0 1 " + digest(h.leaf[0])} }, refused, refused},
		{&site{name: "k211"}, func(h shake) []string { return []string{"2 1 1 " + digest(h.chain[1])} }, goes, goes},
		{&site{name: "several"}, func(h shake) []string { return []string{stale, "3 1 1 " + digest(h.leaf[1])} }, goes, refused},
		{&site{name: "stale"}, func(shake) []string { return []string{stale} }, goes, goes},
		{&site{name: "unusable"}, func(h shake) []string { return []string{"1 1 1 " + digest(h.leaf[1])} }, goes, goes}, // senders check nothing
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
		return shakeHands(w.Sender, port{address: s.address() + ":25", name: s.names()[0]}, "ec256")
	}
	for _, r := range rows {
		for _, record := range r.records(shaken(r.site)) {
			w.check(w.publish(t.Context(), r.site, record))
		}
	}
	wait(t.Context(), 3*time.Second) // caches of "no records"
	w.each(t, func(s *site) error {
		r := rows[slices.IndexFunc(rows, func(r row) bool { return r.site == s })]
		for _, c := range []struct {
			flag string
			code int
		}{{"--now", r.sameKey}, {"--new-key", r.newKey}} {
			before := shaken(r.site)
			done := w.mxcert(t.Context(), "renew", r.name, c.flag)
			after := shaken(r.site)
			said := strings.Join(strings.Fields(done.Stdout+done.Stderr), " ") // results are broken into lines of 80 columns
			if done.Code != c.code {
				t.Errorf("%s: renew %s: exit status %d, want %d\n%s", r.name, c.flag, done.Code, c.code, said)
			}
			if before.failed+after.failed != "" {
				return fmt.Errorf("%s: %s%s", r.name, before.failed, after.failed)
			}
			changed := !slices.Equal(before.leaf[0], after.leaf[0])
			if changed != (c.code == goes) || (c.flag == "--now" && before.spki() != after.spki()) {
				t.Errorf("%s: renew %s: another certificate: %v, another key: %v", r.name, c.flag, changed, before.spki() != after.spki())
			}
			if c.code == refused && !strings.Contains(said, "TLSA 3 ") {
				t.Errorf("%s: renew %s does not say which record to publish:\n%s", r.name, c.flag, said)
			}
			finger, err := w.Sender.Run(t.Context(), "posttls-finger", "-c", "-t", "40", "-T", "40", "-l", "dane", "-L", "summary,verbose", r.domain())
			if err != nil {
				return err
			}
			if verified := strings.Contains(finger.Stdout+finger.Stderr, "Verified TLS connection"); verified != (r.name != "stale" && r.name != "unusable") {
				t.Errorf("%s: after renew %s: verified: %v\n%s%s", r.name, c.flag, verified, finger.Stdout, finger.Stderr)
			}
		}
		return nil
	})
}
