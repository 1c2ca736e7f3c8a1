package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/port"
)

// TestPrometheus has Debian's Prometheus scrape a daemon, and Debian's node_exporter read its textfile.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	address, dir := port.Address(t), t.TempDir()
	file := filepath.Join(dir, "mxcert.prom")
	text, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	text = fmt.Appendf(text, "\nmetrics: {listen: %q, textfile: %q}\n", address, file)
	if err := os.WriteFile(h.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	d := h.daemon()
	d.awaitLog("certificate in service")
	served := func() bool { return strings.Contains(fetched("http://"+address+"/metrics"), "mxcert_served_matches{") }
	eventually(t, "the daemon says what is served", served)
	if got := fetched("http://" + address + "/healthz"); got != "ok\n" {
		t.Errorf("healthz: %s", got)
	}
	if text := fetched("http://" + address + "/metrics"); !strings.Contains(text, `result="success"} 1`) {
		t.Errorf("the order is not counted:\n%s", text)
	}

	prometheus, config := port.Address(t), filepath.Join(t.TempDir(), "prometheus.yml")
	scrape := fmt.Sprintf("scrape_configs: [{job_name: mxcert, scrape_interval: 1s, static_configs: [{targets: [%q]}]}]\n", address)
	if err := os.WriteFile(config, []byte(scrape), 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, "prometheus", "--config.file="+config, "--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+prometheus)
	query := "http://" + prometheus + "/api/v1/query?query=" + url.QueryEscape(`mxcert_served_matches == 1 and on(certificate) (mxcert_certificate_not_after_timestamp_seconds > time())`)
	eventually(t, "Prometheus knows that the certificate is served", func() bool { return strings.Contains(fetched(query), `"endpoint":`) })

	exporter := port.Address(t)
	// As mxcert(7) says, node_exporter has a link to the file.
	collected := t.TempDir()
	if err := os.Symlink(file, filepath.Join(collected, "mxcert.prom")); err != nil {
		t.Fatal(err)
	}
	background(t, "prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory="+collected, "--web.listen-address="+exporter)
	eventually(t, "node_exporter gives the textfile", func() bool {
		return strings.Contains(fetched("http://"+exporter+"/metrics"), "mxcert_served_matches{") &&
			strings.Contains(fetched("http://"+exporter+"/metrics"), "node_textfile_scrape_error 0")
	})

	d.stop()
	eventually(t, "after its end the daemon does not answer", func() bool { return fetched("http://"+address+"/metrics") == "" })
	if got := h.run("renew"); got.code != 0 { // without a daemon
		t.Fatalf("renew: %d %s", got.code, got.stderr)
	}
	after, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(after), "mxcert_served_matches{") || !strings.Contains(string(after), `result="success"} 1`) {
		t.Errorf("after renew the file says (%v):\n%s", err, after)
	}
}

// background runs a program of Debian until the end of the test. packaging/test.sh makes it available.
func background(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatalf("there is no %s: packaging/test.sh makes it available", name)
		}
		t.Skipf("there is no %s: packaging/test.sh makes it available", name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	log := &transcript{}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("%s:\n%.4000s", name, log)
		}
	})
}

// fetched reads a page; "" if there is none.
func fetched(address string) string {
	answer, err := http.Get(address) //nolint:noctx,gosec // on loopback
	if err != nil {
		return ""
	}
	defer answer.Body.Close()          //nolint:errcheck // it is read
	text, _ := io.ReadAll(answer.Body) // what there is
	return string(text)
}
