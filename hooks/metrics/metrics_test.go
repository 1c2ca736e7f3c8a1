package metrics_test

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"mxcert/hooks/metrics"
)

var update = flag.Bool("update", false, "write the golden files")

// day is noon of a day in 2030.
func day(n int) time.Time { return time.Date(2030, 1, n, 12, 0, 0, 0, time.UTC) }

// source knows two certificates. The second one never was in service.
func source() *metrics.Source {
	s := &metrics.Source{}
	s.Count([]string{"mx", "new"}, []string{"exim4.service"}, []string{"desk"})
	s.Renewed("mx", metrics.Success)
	s.Reloaded("exim4.service", metrics.Failure)
	s.Notified("desk", metrics.Dropped)
	s.Set(metrics.Snapshot{Release: `1.0 "beta"`, ConfigGood: true, Configured: []string{"mx", "new"}, TLSAStates: []string{"blocked", "steady"}, Certificates: []metrics.Certificate{
		{Name: "mx", Keys: []metrics.Key{{Key: "ec256", NotBefore: day(1), NotAfter: day(31)}, {Key: "rsa2048", NotBefore: day(1), NotAfter: day(30)}},
			Endpoints: []metrics.Endpoint{{Address: "127.0.0.1:25", Key: "ec256", Matches: true, NotAfter: day(31)}, {Address: "127.0.0.1:25", Key: "rsa2048"}, {Address: "127.0.0.1:25", Key: "rsa2048"}},
			Due:       day(20), LastSuccess: day(2).Add(250 * time.Millisecond), Took: 1500 * time.Millisecond,
			Owners: []metrics.Owner{{Host: "mx.example.org", Port: 25, Matches: true}}, TLSA: []metrics.KeyState{{Key: "ec256", State: "steady"}}},
		{Name: "new", Took: time.Second, Unknown: -1},
	}, Fleet: &metrics.Fleet{Up: true, Hosts: []metrics.FleetHost{{Certificate: "mx", Host: "mx1", Matches: true}, {Certificate: "mx", Host: "mx2.example.org"}}}})
	return s
}

// scrape asks for a page of a server.
func scrape(t *testing.T, handler http.Handler) string {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

func server(t *testing.T, s *metrics.Source, health func() error) *metrics.Server {
	t.Helper()
	srv := metrics.NewServer(slog.New(slog.DiscardHandler), s, health)
	t.Cleanup(srv.Close)
	return srv
}

// The whole page is a golden file: its names and labels never change.
func TestPage(t *testing.T) {
	text := scrape(t, server(t, source(), nil).Handler())
	text = strings.Replace(text, fmt.Sprintf("goversion=%q", goVersion()), `goversion="go"`, 1)
	golden := filepath.Join("testdata", "page.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("the page is\n%s", text)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
}

// TestPromtool has Debian's promtool read the page.
func TestPromtool(t *testing.T) {
	promtool := tool(t, "promtool")
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape(t, server(t, source(), nil).Handler()))
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// tool returns a program of Debian, which packaging/test.sh makes available.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatalf("there is no %s: packaging/test.sh makes it available", name)
		}
		t.Skipf("there is no %s: packaging/test.sh makes it available", name)
	}
	return path
}

// Every metric has a text, names in the style of Prometheus, and labels that cannot clash with those of a scrape.
func TestCatalogue(t *testing.T) {
	list := metrics.Catalogue()
	for i, m := range list {
		if m.Help == "" || !strings.HasPrefix(m.Name, "mxcert_") || m.Counter != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%+v", m)
		}
		if i > 0 && list[i-1].Name >= m.Name {
			t.Errorf("%s is listed twice, or too late", m.Name)
		}
		for _, label := range m.Labels {
			if slices.Contains([]string{"job", "instance"}, label) {
				t.Errorf("%s has the label %s", m.Name, label)
			}
		}
	}
}

// The manual page mxcert(7) has each metric, with its labels and its text.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../packaging/man/mxcert.7.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(text), `\`, "")
	for _, m := range metrics.Catalogue() {
		labels := ""
		if len(m.Labels) > 0 {
			labels = "{" + strings.Join(m.Labels, ", ") + "}"
		}
		if entry := m.Name + labels + "\n: " + m.Help + "\n"; !strings.Contains(page, "\n"+entry) {
			t.Errorf("mxcert(7) lacks\n%s", entry)
		}
	}
}

// What leaves the configuration leaves the metrics.
func TestLeaves(t *testing.T) {
	s := source()
	s.Count([]string{"new"}, nil, nil)
	s.Set(metrics.Snapshot{Configured: []string{"new"}, Certificates: []metrics.Certificate{{Name: "new"}}})
	s.Renewed("new", "a result that nobody knows")
	text := scrape(t, server(t, s, nil).Handler())
	for _, gone := range []string{`"mx"`, "exim4.service", "desk", "nobody knows"} {
		if strings.Contains(text, gone) {
			t.Errorf("%s is still there:\n%s", gone, text)
		}
	}
	if !strings.Contains(text, `mxcert_renewals_total{certificate="new",result="failure"} 0`) {
		t.Errorf("new is not counted:\n%s", text)
	}
}

// Strange text in a label harms nothing.
func TestForeignText(t *testing.T) {
	s := &metrics.Source{}
	s.Set(metrics.Snapshot{Certificates: []metrics.Certificate{{Name: "mx", Endpoints: []metrics.Endpoint{{Address: "\xff\"\n\\", Key: "ec256"}}}}})
	if text := scrape(t, server(t, s, nil).Handler()); !strings.Contains(text, `endpoint="`+"\uFFFD"+`\"\n\\"`) {
		t.Errorf("%s", text)
	}
}
