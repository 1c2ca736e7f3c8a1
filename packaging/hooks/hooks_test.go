// Package hooks tests the sample hooks as they are shipped.
package hooks

import (
	"bytes"
	"io"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The sample mails what failed, with texts that look like options and headers, and also before the first certificate.
func TestMailFailure(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	sent := filepath.Join(bin, "sent")
	fake := "#!/bin/sh\nprintf '%s ' \"$@\" >'" + sent + ".args'\ncat >'" + sent + "'\n"
	if err := os.WriteFile(filepath.Join(bin, "sendmail"), []byte(fake), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	for _, tt := range []struct{ env, want, not string }{
		{"MXCERT_ERROR=the CA's answer: 100% \"$(touch x)\"\nMXCERT_HINT=wait\nMXCERT_NOT_AFTER=2027-01-01T00:00:00Z\nMXCERT_STAGE=order", "What failed (order):\n  the CA's answer: 100% \"$(touch x)\"\n\nNext step:\n  wait\n\nThe current certificate expires at 2027-01-01T00:00:00Z.\n", "no certificate"},
		{"MXCERT_ERROR=no DNS", "What failed (unknown step):\n  no DNS\n\nThere is no certificate yet.\n", "Next step"},
	} {
		hook := exec.CommandContext(t.Context(), "./mail-failure")
		hook.Env = append([]string{"PATH=" + bin + ":/usr/bin:/bin", "LANG=C.UTF-8", "MXCERT_EVENT=fail", "MXCERT_NAME=mx"}, strings.Split(tt.env, "\n")...)
		if out, err := hook.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%v: %s", err, out)
		}
		args, _ := os.ReadFile(sent + ".args")
		text, err := os.ReadFile(sent)
		if err != nil {
			t.Fatal(err)
		}
		message, err := mail.ReadMessage(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		body, err := io.ReadAll(message.Body)
		if err != nil {
			t.Fatal(err)
		}
		if string(args) != "-oi -- root " || message.Header.Get("To") != "root" || !strings.HasPrefix(message.Header.Get("Subject"), "mxcert: mx failed on ") ||
			message.Header.Get("Auto-Submitted") != "auto-generated" || !strings.HasPrefix(string(body), tt.want) || strings.Contains(string(body), tt.not) {
			t.Errorf("sendmail %s got\n%s", args, text)
		}
	}
}
