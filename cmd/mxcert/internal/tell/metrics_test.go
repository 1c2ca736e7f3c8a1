package tell_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert-lab/port"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
)

// instant is when everything of these tests happens.
var instant = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// inService is the report of a pass that found everything right.
func inService(name string) report.Certificate {
	r := report.New(name, []string{"mx.example.org"})
	r.Keys = []report.Key{{Key: "ec256", NotBefore: instant, NotAfter: instant.AddDate(0, 0, 90)}}
	r.Endpoints = []report.Endpoint{{Address: "127.0.0.1:25", Key: "ec256", Matches: true, NotAfter: new(instant.AddDate(0, 0, 90))}}
	r.RenewalDue, r.LastSuccess = instant.AddDate(0, 0, 60), instant
	r.TLSA = &report.TLSA{Owners: []report.TLSAOwner{{Host: "mx.example.org", Port: 25, Matches: new(true)}, {Host: "not.asked", Port: 25}}, Keys: []report.TLSAKey{{Key: "ec256", State: "holding"}}}
	return r
}

// world has one configuration and the results of passes.
func world(file string, reports ...report.Certificate) tell.World {
	w := tell.World{Host: host("mx", "other"), Release: "1.0", Loaded: instant, Certificates: map[string]tell.Certificate{}, Findings: map[tell.Topic][]finding.Finding{}}
	w.Host.Metrics = wanted.Metrics{Textfile: file, Watched: true, Channels: []string{"desk"}}
	w.Host.Certificates[0].Places = []wanted.Place{{Unit: "exim4.service", Reload: wanted.Always}}
	for _, r := range reports {
		w.Certificates[r.Name] = tell.Certificate{Report: r, Took: 2 * time.Second}
	}
	return w
}

// published returns what the listener has written, of which some lines are wanted.
func published(t *testing.T, m *tell.Metrics, w tell.World, lines ...string) string {
	t.Helper()
	w.Final = true // the file is written at once
	m.Listen(t.Context(), w)
	text, err := os.ReadFile(w.Host.Metrics.Textfile)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if !strings.Contains(string(text), line+"\n") {
			t.Errorf("%s is missing:\n%s", line, text)
		}
	}
	return string(text)
}

func TestMetrics(t *testing.T) {
	m := tell.NewMetrics(slog.New(slog.DiscardHandler))
	w := world(filepath.Join(t.TempDir(), "mxcert.prom"), inService("mx"))
	w.Findings[tell.Topic{Source: "ct", Certificate: "mx"}] = []finding.Finding{finding.New("ct-unknown-certificate", finding.Error, "x"), finding.New("ct-source-away", finding.Warning, "y")}
	pass := inService("mx")
	pass.Renewal, pass.Reloads = report.Succeeded, []report.Reloaded{{Unit: "exim4.service", Outcome: report.Inactive}}
	m.Witness(tell.Pass{Report: pass})
	m.Notified("desk", "failure")
	text := published(t, m, w, `mxcert_certificate_not_after_timestamp_seconds{certificate="mx",key="ec256"} 1.9013616e+09`)
	for _, line := range []string{
		`mxcert_served_matches{certificate="mx",endpoint="127.0.0.1:25",key="ec256"} 1`,
		`mxcert_tlsa_matches{certificate="mx",host="mx.example.org",port="25"} 1`,
		`mxcert_tlsa_state{certificate="mx",key="ec256",state="holding"} 1`,
		`mxcert_tlsa_state{certificate="mx",key="ec256",state="steady"} 0`,
		`mxcert_ct_unknown_certificates{certificate="mx"} 1`,
		`mxcert_renewals_total{certificate="mx",result="success"} 1`,
		`mxcert_reloads_total{unit="exim4.service",result="inactive"} 1`,
		`mxcert_notifications_total{channel="desk",result="failure"} 1`,
		`mxcert_pass_duration_seconds{certificate="mx"} 2`,
		`mxcert_config_last_reload_successful 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s is missing:\n%s", line, text)
		}
	}
	if strings.Contains(text, "not.asked") {
		t.Errorf("nobody knows whether not.asked matches:\n%s", text)
	}
	// A pass that failed before it looked leaves what is known. The next configuration does not.
	failed := report.New("mx", nil)
	failed.Error = &report.Error{Stage: "lock"}
	w.Certificates["mx"] = tell.Certificate{Report: failed}
	published(t, m, w, `mxcert_served_matches{certificate="mx",endpoint="127.0.0.1:25",key="ec256"} 1`)
	w.Loaded, w.ConfigError = instant.Add(time.Minute), "line 3"
	if text := published(t, m, w, `mxcert_config_last_reload_successful 0`); strings.Contains(text, "127.0.0.1:25") {
		t.Errorf("the endpoint is still there:\n%s", text)
	}
	w.Host.Metrics.Watched = false
	if text := published(t, m, w); strings.Contains(text, "mxcert_ct_unknown_certificates") {
		t.Errorf("nobody looks at logs:\n%s", text)
	}
}

// However often the configuration changes, the metrics have what it has now: every certificate, endpoint, unit and channel that leaves it leaves
// them, and a late pass over one brings nothing back.
func TestMetricsDoNotGrow(t *testing.T) {
	m := tell.NewMetrics(slog.New(slog.DiscardHandler))
	file := filepath.Join(t.TempDir(), "mxcert.prom")
	lines := 0
	for i := range 100 {
		name := fmt.Sprintf("mx%03d", i)
		r := inService(name)
		r.Endpoints[0].Address = fmt.Sprintf("127.0.0.1:%d", 2000+i)
		r.TLSA.Owners[0].Host = name + ".example.org"
		r.Renewal, r.Reloads = report.Succeeded, []report.Reloaded{{Unit: name + ".service", Outcome: report.Inactive}}
		w := world(file, r)
		w.Host, w.Loaded = host(name), instant.Add(time.Duration(i)*time.Minute)
		w.Host.Certificates[0].Places = []wanted.Place{{Unit: name + ".service", Reload: wanted.Always}}
		w.Host.Metrics = wanted.Metrics{Textfile: file, Watched: true, Channels: []string{name}}
		m.Witness(tell.Pass{Report: r})
		m.Notified(name, "success")
		late := inService("mx000")
		late.Renewal = report.Succeeded
		m.Witness(tell.Pass{Report: late})
		text := published(t, m, w, fmt.Sprintf(`mxcert_reloads_total{unit="%s.service",result="inactive"} 1`, name), fmt.Sprintf(`mxcert_notifications_total{channel=%q,result="success"} 1`, name))
		if n := strings.Count(text, "\n"); lines == 0 {
			lines = n
		} else if n != lines {
			t.Fatalf("after %d configurations there are %d lines and not %d:\n%s", i+1, n, lines, text)
		}
		if i > 0 && (strings.Contains(text, fmt.Sprintf("mx%03d", i-1)) || strings.Contains(text, "mx000")) {
			t.Fatalf("what has left is still there:\n%s", text)
		}
	}
	if lines < 40 {
		t.Errorf("the file has only %d lines", lines)
	}
}

// A textfile that the configuration does not have any more would be read for ever.
func TestTextfileLeaves(t *testing.T) {
	m := tell.NewMetrics(slog.New(slog.DiscardHandler))
	w := world(filepath.Join(t.TempDir(), "mxcert.prom"), inService("mx"))
	published(t, m, w)
	old := w.Host.Metrics.Textfile
	w.Host.Metrics = wanted.Metrics{}
	m.Listen(t.Context(), w)
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", old, err)
	}
}

// A textfile that cannot be written costs one line, and is tried again.
func TestTextfileCannotBeWritten(t *testing.T) {
	var log strings.Builder
	m := tell.NewMetrics(slog.New(slog.NewTextHandler(&log, nil)))
	dir := filepath.Join(t.TempDir(), "later")
	w := world(filepath.Join(dir, "mxcert.prom"), inService("mx"))
	for range 3 {
		if m.Listen(t.Context(), w).IsZero() {
			t.Fatal("nobody tries again")
		}
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("the log says %s", log.String())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if again := m.Listen(t.Context(), w); !again.IsZero() || !strings.Contains(log.String(), "is written again") {
		t.Errorf("the file is not written: %s", log.String())
	}
	if again := m.Listen(t.Context(), w); again.IsZero() {
		t.Error("the file is written all the time")
	}
}

// Only a daemon listens.
func TestMetricsListen(t *testing.T) {
	address := port.Address(t)
	get := func(page string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+page, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, ""
		}
		defer answer.Body.Close() //nolint:errcheck // it is read
		text, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(text)
	}
	m := tell.NewMetrics(slog.New(slog.DiscardHandler))
	w := world("", inService("mx"))
	w.Host.Metrics.Listen = address
	m.Listen(t.Context(), w)
	if code, _ := get("/metrics"); code != 0 {
		t.Errorf("a command listens: %d", code)
	}
	w.Health = func() error { return errors.New("a pass over mx hangs") }
	m.Listen(t.Context(), w)
	if code, text := get("/metrics"); code != 200 || !strings.Contains(text, `mxcert_served_matches{certificate="mx"`) {
		t.Errorf("%d %s", code, text)
	}
	if code, text := get("/healthz"); code != 503 || text != "a pass over mx hangs\n" {
		t.Errorf("%d %s", code, text)
	}
	w.Final = true
	m.Listen(context.Background(), w)
	if code, _ := get("/metrics"); code != 0 {
		t.Errorf("at the end it still listens: %d", code)
	}
}

// A pipe at the place of the textfile keeps nobody waiting for a writer.
func TestTextfileIsPipe(t *testing.T) {
	w := world(filepath.Join(t.TempDir(), "mxcert.prom"), inService("mx"))
	if err := syscall.Mkfifo(w.Host.Metrics.Textfile, 0o600); err != nil {
		t.Fatal(err)
	}
	published(t, tell.NewMetrics(slog.New(slog.DiscardHandler)), w, `mxcert_build_info{version="1.0",goversion="`+runtime.Version()+`"} 1`)
}
