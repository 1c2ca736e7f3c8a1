package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/deploy/tlsrpt"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/reported"
)

// TestReportsWanted: a record without a reader, a reader without a record, and records that senders ignore.
func TestReportsWanted(t *testing.T) {
	t.Parallel()
	const directory = "/var/spool/mxcert-tlsrpt"
	for name, c := range map[string]struct {
		texts     []string
		directory string
		severity  finding.Severity
		says      string
		hint      string
	}{
		"neither":          {nil, "", finding.OK, "does not ask senders for reports", "mxcert-tlsrpt(7)"},
		"nobody asks":      {nil, directory, finding.Warning, "asks nobody for reports", `publish _smtp._tls.example.org. TXT "v=TLSRPTv1; rua=mailto:tlsrpt@example.org"`},
		"nobody reads":     {[]string{"v=TLSRPTv1; rua=mailto:tls@EXAMPLE.org"}, "", finding.OK, "mxcert reads none", "if no other program reads them"},
		"both":             {[]string{"v=TLSRPTv1; rua=mailto:tls@example.org"}, directory, finding.OK, "senders send reports about example.org to tls@example.org", ""},
		"elsewhere":        {[]string{"v=TLSRPTv1; rua=mailto:x@service.example"}, "", finding.OK, "to x@service.example", ""},
		"elsewhere, drop":  {[]string{"v=TLSRPTv1; rua=mailto:x@service.example"}, directory, finding.OK, "no mail domain of this host", ""},
		"posted":           {[]string{"v=TLSRPTv1; rua=https://service.example/"}, directory, finding.Warning, "senders do not mail reports", "add mailto:tlsrpt@example.org"},
		"posted elsewhere": {[]string{"v=TLSRPTv1; rua=https://service.example/"}, "", finding.OK, "to https://service.example/", ""},
		"two records":      {[]string{"v=TLSRPTv1; rua=mailto:a@b.example", "v=TLSRPTv1; rua=mailto:c@d.example"}, "", finding.Warning, "senders ignore all", "publish "},
		"no address":       {[]string{"v=TLSRPTv1; rua="}, directory, finding.Warning, "names no mailto:", "publish "},
	} {
		f := asked("example.org", resolve.Set[string]{Records: c.texts}, c.directory, []string{"example.com", "example.org"})
		if f.Severity != c.severity || !strings.Contains(f.Message, c.says) || !strings.Contains(f.Hint, c.hint) || c.severity != finding.OK && f.Hint == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// The test asks DNS for each mail domain, and is left out without mail domains and without a directory.
func TestReportTest(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.check(h.World.Add(`_smtp._tls.example.org. TXT "v=TLSRPTv1; rua=mailto:tls@example.com"`))
	d := h.doctor()
	if _, is := d.reportTest(); is {
		t.Error("there is something to look at")
	}
	d.Certificates[0].MailDomains = []string{"example.org", "example.com"}
	run := func() checks {
		t.Helper()
		test, is := d.reportTest()
		if !is {
			t.Fatal("there is nothing to look at")
		}
		return as(test.id, test.run(t.Context()))
	}
	found := run()
	found.expect(t, "one domain asks", 2, "ok", "tlsrpt", "senders send reports about example.org to tls@example.com; mxcert reads none")
	found.expect(t, "one domain does not", 2, "ok", "tlsrpt", "example.com does not ask senders")
	d.Certificates[0].MailDomains, d.Runner.Host.ReportDirectory = nil, filepath.Join(t.TempDir(), "none")
	run().expect(t, "a directory alone", 3, "warning", "tlsrpt", "does not exist, so no report arrives there")
}

// TestDrop: the directory is missing, cannot be read, has a mail that cannot be read, or takes reports of everybody.
func TestDrop(t *testing.T) {
	t.Parallel()
	directory := filepath.Join(t.TempDir(), "drop")
	check := func(severity finding.Severity, says string) {
		t.Helper()
		as("tlsrpt", dropAt(directory)).expect(t, says, 1, severity, "tlsrpt", says)
	}
	check(finding.Warning, "does not exist")
	inside := filepath.Join(directory, "new")
	if err := os.MkdirAll(inside, 0o750); err != nil {
		t.Fatal(err)
	}
	check(finding.OK, "can be read")
	mail := filepath.Join(inside, "1")
	if err := os.WriteFile(mail, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(inside, 0o777); err != nil {
		t.Fatal(err)
	}
	check(finding.Warning, "every user of this host can put reports into "+inside)
	if err := os.Chmod(inside, 0o755); err != nil { //nolint:gosec // others may read
		t.Fatal(err)
	}
	check(finding.OK, "can be read")
}

// TestDropOfOthers: rights that the service lacks, with the command that gives them.
func TestDropOfOthers(t *testing.T) {
	t.Parallel()
	directory, err := os.MkdirTemp("/tmp", "drop") // those of tests are closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	mails := filepath.Join(directory, "new")
	for _, step := range []func() error{
		func() error { return os.Chmod(directory, 0o755) }, //nolint:gosec // others may read
		func() error { return os.Mkdir(mails, 0o755) },     //nolint:gosec // others may read
		func() error { return os.WriteFile(filepath.Join(mails, "1"), nil, 0o600) },
		func() error { return os.WriteFile(filepath.Join(mails, "2"), nil, 0o644) }, //nolint:gosec // others may read
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	check := func(mode os.FileMode, path, says string) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var found []finding.Finding
		asOther(t, func() { found = dropAt(directory) })
		as("tlsrpt", found).expect(t, says, 1, finding.Warning, "tlsrpt", says)
		if !strings.HasPrefix(found[0].Hint, "chgrp -R mxcert "+directory) {
			t.Errorf("the hint is %s", found[0].Hint)
		}
	}
	check(0o755, mails, "1 of the reports in "+directory+" cannot be read, such as "+mails+"/1")
	check(0o700, mails, "cannot be read, such as "+mails)
	check(0o700, directory, "the reports of senders cannot be read: open "+directory+": permission denied")
}

// TestReportedFailures: what senders report and holds is a warning with a next step, whatever the policy; and what the daemon cannot read.
func TestReportedFailures(t *testing.T) {
	t.Parallel()
	h := desert(t)
	d := h.doctor()
	h.check(os.MkdirAll(h.Path("state"), 0o700))
	as("tlsrpt", d.said()).expect(t, "nothing yet", 1, "ok", "tlsrpt", "has read no report")
	day := time.Now().UTC().Add(-48 * time.Hour).Truncate(24 * time.Hour)
	policy := tlsrpt.Policy{Type: "tlsa", Domain: "mx.example.org", Good: 397}
	remember := func(said ...finding.Finding) {
		t.Helper()
		memory := reported.Memory{Said: said}
		memory.Add([]tlsrpt.Report{{Organization: "Google Inc.", ID: "1", From: day, Until: day.Add(24 * time.Hour), Policies: []tlsrpt.Policy{policy}}}, time.Now())
		h.check(h.store().Remember(state.Reported, memory))
	}
	remember()
	as("tlsrpt", d.said()).expect(t, "no failure", 1, "ok", "tlsrpt", "1 report of 1 sender, until")
	policy.Failures = []tlsrpt.Failure{{Type: "tlsa-invalid", Host: "mx.example.org", Sessions: 3}}
	remember(finding.New("tlsrpt-directory", finding.Warning, "the reports of senders cannot be read: permission denied").Next("let the service read it"))
	as("tlsrpt", d.said()).expect(t, "a failure", 1, "warning", "tlsrpt-tlsa-invalid", "Google Inc. met tlsa-invalid on mx.example.org")
	d.Daemon = &report.Daemon{}
	as("tlsrpt", d.said()).expect(t, "what the service cannot read", 2, "warning", "tlsrpt-directory", "permission denied")
}
