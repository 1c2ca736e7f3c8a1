package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/deploy/tlsrpt"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/reported"
	"mxcert/cmd/mxcert/internal/wanted"
)

// status shows what senders report, as far as a daemon remembers reports, and looks at nothing otherwise. The exit code stays.
func TestStatusReported(t *testing.T) {
	t.Parallel()
	store, err := state.Open(disk.Open(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	host := func() *wanted.Host {
		return &wanted.Host{Certificates: []wanted.Certificate{{Name: "mx", Names: []string{"mx2.example.org"}, MailDomains: []string{"example.org"}}, {Name: "web", Names: []string{"www.example.org"}}}}
	}
	status := func(host func() *wanted.Host) (*report.Report, string, string) {
		r := report.Sum([]report.Certificate{report.New("mx", []string{"mx2.example.org"}), report.New("web", []string{"www.example.org"})})
		addReported(r, store, host)
		var details, table bytes.Buffer
		printCertificate(plainSheet(&details), r.Certificates[0])
		printTable(plainSheet(&table), r.Certificates, time.Now())
		return r, strings.Join(strings.Fields(details.String()), " "), strings.Join(strings.Fields(table.String()), " ")
	}
	r, details, _ := status(func() *wanted.Host {
		t.Error("the configuration is needed although there are no reports")
		return nil
	})
	if r.Certificates[0].Reported != nil || strings.Contains(details, "reported") {
		t.Errorf("without reports: %s", details)
	}

	day := time.Now().UTC().Add(-48 * time.Hour).Truncate(24 * time.Hour)
	policy := tlsrpt.Policy{Type: "sts", Domain: "example.org", Good: 397, Bad: 3, Failures: []tlsrpt.Failure{{Type: "certificate-expired", Host: "mx2.example.org", Sessions: 3}}}
	remember := func(reports ...tlsrpt.Report) {
		t.Helper()
		var memory reported.Memory
		memory.Add(reports, time.Now())
		if err := store.Remember(state.Reported, memory); err != nil {
			t.Fatal(err)
		}
	}
	remember(tlsrpt.Report{Organization: "Google Inc.", ID: "1", From: day, Until: day.Add(24 * time.Hour), Policies: []tlsrpt.Policy{policy}})
	r, details, table := status(host)
	if mx := r.Certificates[0]; mx.Reported.Holding() != 1 || mx.Code != report.CodeOK || r.Certificates[1].Reported != nil {
		t.Errorf("%+v", r.Certificates)
	}
	if !strings.Contains(details, "reported Google Inc. met certificate-expired on mx2.example.org from ") || !strings.Contains(details, "next step mxcert status mx shows what is in service") {
		t.Errorf("details: %s", details)
	}
	if !strings.HasSuffix(table, "senders report failures about mx: mxcert status NAME shows them") {
		t.Errorf("table: %s", table)
	}

	policy.Bad, policy.Failures = 0, nil
	remember(tlsrpt.Report{Organization: "Google Inc.", ID: "1", From: day, Until: day.Add(24 * time.Hour), Policies: []tlsrpt.Policy{policy}})
	if _, details, table = status(host); !strings.Contains(details, "reported no failure in the last week; 1 report of Google Inc. since ") || strings.Contains(table, "senders report") {
		t.Errorf("without a failure: %s\n%s", details, table)
	}
}
