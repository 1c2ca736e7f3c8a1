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

// The hook for certspotter is silent about what is ours, and mails the rest with the reason, also if mxcert cannot tell.
func TestCertspotter(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	sent, found := filepath.Join(bin, "sent"), filepath.Join(bin, "found.txt")
	for name, text := range map[string]string{
		"sendmail":  "#!/bin/sh\ncat >'" + sent + "'\n",
		"ours":      "#!/bin/sh\nread -r word\necho \"said $word\"\nexit \"$word\"\n",
		"found.txt": "A certificate has been discovered.\n", "0": "0\n", "1": "1\n", "3": "3\n",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil { //nolint:gosec // programs
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ env, want string }{
		{"EVENT=discovered_cert\nCERT_FILENAME=" + bin + "/0", ""},
		{"EVENT=discovered_cert\nCERT_FILENAME=" + bin + "/3\nSERIAL=04ab", "said 3\n\nA certificate has been discovered.\n\nIf another machine of yours ordered it: mxcert ct check --accept 04ab\n"},
		{"EVENT=discovered_cert\nCERT_FILENAME=" + bin + "/1", "mxcert could not tell whether it is ours (exit code 1): said 1\n"},
		{"EVENT=discovered_cert", "certspotter runs with -no_save, so that mxcert cannot tell whether it is ours\n\nA certificate"},
		{"EVENT=malformed_cert", "A certificate has been discovered.\n"},
		{"EVENT=error", "A certificate has been discovered.\n"},
	} {
		_ = os.Remove(sent)
		hook := exec.CommandContext(t.Context(), "./certspotter")
		hook.Env = append([]string{"PATH=" + bin + ":/usr/bin:/bin", "MXCERT_OURS=" + bin + "/ours", "SUMMARY=a summary", "TEXT_FILENAME=" + found}, strings.Split(tt.env, "\n")...)
		if out, err := hook.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%v: %s", err, out)
		}
		text, err := os.ReadFile(sent)
		if tt.want == "" {
			if err == nil {
				t.Errorf("a mail about what is ours: %s", text)
			}
			continue
		}
		message, err := mail.ReadMessage(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		body, err := io.ReadAll(message.Body)
		if err != nil || message.Header.Get("Subject") != "[certspotter] a summary" || !strings.HasPrefix(string(body), tt.want) {
			t.Errorf("%v: got\n%s", err, text)
		}
	}
}
