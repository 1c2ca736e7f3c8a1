package e2e

import (
	"os"
	"strconv"
	"testing"
)

const stapleFile = "/etc/exim4/ocsp.der"

func TestOCSPUnderLoad(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("MXCERT_LOAD"))
	for _, v := range []struct{ name, layout, path, setting string }{
		{"condition", "pair", stapleFile, "tls_ocsp_file = ${if exists{" + stapleFile + "}{" + stapleFile + "}}"},
		{"plain", "pair", stapleFile, "tls_ocsp_file = " + stapleFile},
		{"combined", "combined", stapleFile, "tls_ocsp_file = ${if exists{" + stapleFile + "}{" + stapleFile + "}}"},
	} {
		t.Run(v.name, func(t *testing.T) {
			s, r := stapling(t, v.layout, v.path, "")
			s.report(0, "renew")
			must(t, s.Host, "sh", "-ec", "echo '"+v.setting+"' >>/etc/exim4/exim4.conf.localmacros; update-exim4.conf; systemctl restart exim4")
			s.check(s.AwaitPort(t.Context(), "127.0.0.1:25"))
			s.report(0, "renew", "--now", "--new-key")
			load := s.StartLoad(t.Context(), 4, 0, "127.0.0.1:25")
			for range n {
				s.report(0, "rollback", "mx")
			}
			figure(t, "%d changes, asked %d: %s", n, r.times(), load.Stop())
		})
	}
}
