package e2e

import (
	"os"
	"strings"
	"testing"
	"time"
)

// The sample hook, as it is shipped, mails a failure by the real Exim of the host.
func TestFailureIsMailed(t *testing.T) {
	t.Parallel()
	s := begin(t, options{})
	sample, err := os.ReadFile("../hooks/mail-failure")
	s.check(err)
	must(t, s.Host, "mkdir", "-p", "/etc/mxcert/hooks/fail.d", "/etc/mxcert/hooks/pre.d")
	s.check(s.Put("/etc/mxcert/hooks/fail.d/50-mail", sample, 0o755))
	s.check(s.Put("/etc/mxcert/hooks/pre.d/10-no", []byte("#!/bin/sh\necho 'not today'\nexit 1\n"), 0o755))
	s.report(1, "renew", "--now")
	within(t, 2*time.Minute, "the mail", func() bool {
		found, err := s.Run(t.Context(), "grep", "-rhE", "^Subject: mxcert: mx failed on|10-no|^  .*not today", "/var/mail", "/var/spool/exim4/input")
		return err == nil && strings.Contains(found.Stdout, "Subject: mxcert: mx failed on") && strings.Contains(found.Stdout, "10-no")
	})
}
