package e2e

import (
	"testing"
	"time"
)

// TestOCSPUnderLoad measures how many connections meet a 454 while certificate, key and response change, for both ways to have Exim read the
// response, MXCERT_LOAD times.
func TestOCSPUnderLoad(t *testing.T) {
	for _, way := range []struct{ name, layout, reload, line string }{
		{"at each connection", "pair", "auto", conditional},
		{"combined, at each connection", "combined", "auto", conditional},
		{"in advance", "pair", "always", plain},
		{"in advance, noticed", "pair", "auto", plain},
	} {
		t.Run(way.name, func(t *testing.T) {
			s, _ := stapling(t, way.layout, way.reload)
			s.report(0, "renew")
			s.staples(way.line)
			s.report(0, "renew", "--now", "--new-key")
			load := s.StartLoad(t.Context(), 8, 5*time.Millisecond, "127.0.0.1:25")
			n := deployments(t)
			for range n {
				s.report(0, "rollback", "mx")
			}
			figure(t, "%d changes: %s", n, load.Stop())
			log, err := s.Run(t.Context(), "grep", "-h", "TLS error", "/var/log/exim4/mainlog")
			s.check(err)
			t.Log(log.Stdout)
		})
	}
}
