package daemon

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/reported"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
)

// reader is a daemon that only reads reports.
type reader struct {
	*Daemon
	t         *testing.T
	w         *workload
	log       *transcript
	directory string
	heard     chan tell.World
	last      tell.World // that wait has seen
}

// Name implements tell.Listener.
func (r *reader) Name() string { return "test" }

// On implements tell.Listener.
func (r *reader) On(*wanted.Host) bool { return true }

// Listen implements tell.Listener.
func (r *reader) Listen(_ context.Context, w tell.World) time.Time {
	r.heard <- w
	return time.Time{}
}

func newReader(t *testing.T) *reader {
	t.Helper()
	store, err := state.Open(disk.Open(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t: t, log: &transcript{}, directory: t.TempDir(), heard: make(chan tell.World, 100)}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	r.Daemon = New(Options{Log: log, Level: &slog.LevelVar{}, Tell: tell.New(log, testRelease, r)})
	host := &wanted.Host{ReportDirectory: r.directory, Certificates: []wanted.Certificate{{Name: "mx", Names: []string{"mx1.example.org"}, MailDomains: []string{"example.org"}}}}
	r.w = newWorkload(&pass.Runner{Host: host, Store: store}, nil)
	r.Tell.InForce(host, store)
	t.Cleanup(func() {
		r.w.end()
		r.Tell.Close(context.WithoutCancel(t.Context()))
	})
	return r
}

// look reads the directory once, and returns when it wants to again.
func (r *reader) look() time.Duration {
	r.t.Helper()
	next := r.readReports(r.t.Context(), r.w)
	return time.Until(next).Round(time.Minute)
}

// put puts a report about a day into the directory. failed is a list of failures in JSON.
func (r *reader) put(name, organization string, day time.Time, failed string) {
	r.t.Helper()
	text := fmt.Sprintf(`{"organization-name": %q, "report-id": %q, "date-range": {"start-datetime": %q, "end-datetime": %q}, "policies": [{"policy": {"policy-type": "sts", "policy-domain": "example.org"},
		"summary": {"total-successful-session-count": 100, "total-failure-session-count": 7}, "failure-details": [%s]}]}`,
		organization, name, day.Format(time.RFC3339), day.Add(24*time.Hour-time.Second).Format(time.RFC3339), failed)
	if err := os.WriteFile(filepath.Join(r.directory, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// wait waits until listeners hear of findings about a certificate that satisfy a test.
func (r *reader) wait(certificate string, test func([]finding.Finding) bool) {
	r.t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case r.last = <-r.heard:
			if test(r.last.Findings[tell.Topic{Source: "tlsrpt", Certificate: certificate}]) {
				return
			}
		case <-deadline:
			r.t.Fatalf("nobody heard of it; the log:\n%s", r.log)
		}
	}
}

const expiredThere = `{"result-type": "certificate-expired", "receiving-mx-hostname": "mx1.example.org", "failed-session-count": 7}`

// A report that arrives alarms once, and a later one without the failure ends the alarm. Files stay as they are.
func TestReportsOfSenders(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	today := time.Now().UTC().Truncate(24 * time.Hour)
	r.put("one", "Google", today.Add(-48*time.Hour), expiredThere)
	r.put("two", "Other", today.Add(-48*time.Hour), expiredThere)
	r.put("foreign", "Forger", today.Add(-48*time.Hour), strings.Replace(expiredThere, "mx1.example.org", "mx.example.net", 1))
	if err := os.WriteFile(filepath.Join(r.directory, "broken"), []byte(`{"report-id": -}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if next := r.look(); next != time.Hour {
		t.Errorf("the next look is in %s", next)
	}
	r.wait("mx", func(list []finding.Finding) bool {
		return len(list) == 2 && list[0].ID == "tlsrpt-certificate-expired" && list[0].Subject == "mx1.example.org" && list[0].Severity == finding.Error &&
			strings.Contains(list[0].Message, "reports the same") && list[1].Subject == "mx.example.net" && list[1].Severity == finding.Warning
	})
	if mx := r.last.Reported["mx"]; mx.Holding() != 3 || mx.Reports != 3 || len(mx.Senders) != 3 { // Google, Other and Forger
		t.Errorf("reported: %+v", mx)
	}
	if !r.log.has("level=ERROR", "senders report a failure", "id=tlsrpt-certificate-expired", "Google met certificate-expired on mx1.example.org") || !r.log.has("level=WARN", "cannot be read", "file=broken") {
		t.Errorf("the log: %s", r.log)
	}
	r.look() // it reads the last files again, because their times are coarse
	if alarms, reads := r.log.count("senders report a failure"), r.log.count("reports of senders were read"); alarms != 2 || reads != 1 {
		t.Errorf("%d alarms, %d times read:\n%s", alarms, reads, r.log)
	}
	r.put("three", "Google", today.Add(-24*time.Hour), "")
	r.put("four", "Other", today.Add(-24*time.Hour), "")
	r.put("five", "Forger", today.Add(-24*time.Hour), "")
	for _, name := range []string{"one", "two", "foreign"} { // what was read is not forgotten with its file
		if err := os.Remove(filepath.Join(r.directory, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.put("unrelated", "Google", today.Add(-72*time.Hour), "")
	r.look()
	r.wait("mx", func(list []finding.Finding) bool { return len(list) == 1 })
	files, err := os.ReadDir(r.directory)
	if err != nil || len(files) != 5 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// A mail that is still being written is read when it is complete, and nobody is told of half of it.
func TestReportBeingWritten(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	r.put("whole", "Google", time.Now().UTC().Add(-30*time.Hour), expiredThere)
	text, err := os.ReadFile(filepath.Join(r.directory, "whole"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(r.directory, "whole")); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(r.directory, "half")
	if err := os.WriteFile(half, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if next := r.look(); next != time.Minute || r.log.has("cannot be read") {
		t.Errorf("the next look is in %s:\n%s", next, r.log)
	}
	if err := os.WriteFile(half, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if next := r.look(); next != time.Hour || !r.log.has("senders report a failure") {
		t.Errorf("the next look is in %s:\n%s", next, r.log)
	}
}

// A directory that cannot be read is a finding about the host, and the memory stays.
func TestReportsCannotBeRead(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	r.put("one", "Google", time.Now().UTC().Add(-30*time.Hour), expiredThere)
	r.look()
	if err := os.RemoveAll(r.directory); err != nil {
		t.Fatal(err)
	}
	r.look()
	r.wait("", func(list []finding.Finding) bool {
		return len(list) == 1 && list[0].ID == "tlsrpt-directory" && list[0].Hint != ""
	})
	var memory reported.Memory
	if err := r.w.runner.Store.Remembered(state.Reported, &memory); err != nil || len(memory.Reports) != 1 || len(memory.Said) != 2 {
		t.Errorf("%+v, %v", memory, err)
	}
}

// Whatever is in the directory, a look ends: FIFOs, links to devices, directories without end, garbage.
func TestHostileDirectory(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	if err := syscall.Mkfifo(filepath.Join(r.directory, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"zero": "/dev/zero", "self": ".", "shadow": "/etc/shadow"} {
		if err := os.Symlink(target, filepath.Join(r.directory, name)); err != nil {
			t.Fatal(err)
		}
	}
	deep := filepath.Join(r.directory, strings.Repeat("d/", 50))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.directory, "zeros"), bytes.Repeat([]byte{0}, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if next := r.look(); next != time.Hour || r.log.has("cannot be read") {
		t.Errorf("the next look is in %s:\n%s", next, r.log)
	}
}
