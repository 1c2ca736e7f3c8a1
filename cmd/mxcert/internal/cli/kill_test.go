package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// victim is mxcert in a process of its own, with a host around it, that is killed again and again.
type victim struct {
	*host
	runs    int
	kills   int
	windows int      // kills between the two renames of a change of the key
	served  bool     // there was something to serve before
	said    []string // by the runs since the last recovery
}

// kill runs a command and kills it (SIGKILL) when it has printed so many lines of progress, or after a delay where line
// is 0. It reports whether the process was still there to be killed.
func (v *victim) kill(line int, delay time.Duration, args ...string) bool {
	v.t.Helper()
	exe, err := os.Executable()
	v.check(err)
	cmd := exec.CommandContext(v.t.Context(), exe, append([]string{"-c", v.config, "--progress", "plain"}, args...)...)
	cmd.Args[0], cmd.Env = "mxcert", []string{"GORACE=" + noSleep}
	stderr, err := cmd.StderrPipe()
	v.check(err)
	stored, placed := v.inFlight(), v.placed()
	defer func() { v.resumed(stored, placed) }()
	v.runs++
	v.said = append(v.said, "-- "+strings.Join(args, " "))
	v.check(cmd.Start())
	if line == 0 {
		defer time.AfterFunc(delay, func() { _ = cmd.Process.Kill() }).Stop()
	}
	lines := 0
	for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
		v.said = append(v.said, scanner.Text())
		if lines++; lines == line {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait() // how it ended is what is looked at
	switch code := report.Code(cmd.ProcessState.ExitCode()); code {
	case report.CodeOK:
		return false
	case -1:
		v.kills++
		v.intact()
		return true
	default:
		v.t.Fatalf("exit code %d:\n%s", code, v.story())
		return false
	}
}

// intact looks at what a mail server would find now: nothing, or whole files, old or new, that belong together.
func (v *victim) intact() {
	v.t.Helper()
	certificate, certificateErr := os.ReadFile(v.Path("tls", "mx.crt"))
	key, keyErr := os.ReadFile(v.Path("tls", "mx.key"))
	for name, content := range map[string][]byte{"fullchain.pem": certificate, "privkey.pem": key} {
		if content == nil {
			continue
		}
		stored, err := filepath.Glob(v.Path("state", "lineages", "mx", "2*", name))
		v.check(err)
		if !slices.ContainsFunc(stored, func(path string) bool {
			text, err := os.ReadFile(path)
			return err == nil && string(text) == string(content)
		}) {
			v.t.Errorf("what is deployed as %s was never issued, after:\n%s", name, v.story())
		}
	}
	if certificateErr != nil || keyErr != nil {
		if v.served {
			v.t.Errorf("a file is missing (%v, %v) after:\n%s", certificateErr, keyErr, v.story())
		}
		return
	}
	if _, err := tls.X509KeyPair(certificate, key); err != nil {
		v.windows++
		v.t.Logf("between the two renames: %v, after:\n%s", err, v.story())
	}
}

// inFlight reports whether an order was stored that can be gone on with.
func (v *victim) inFlight() bool {
	var order struct{ URL string }
	text, err := os.ReadFile(v.Path("state", "orders", "mx.ec256.json"))
	return err == nil && json.Unmarshal(text, &order) == nil && order.URL != ""
}

// resumed checks that a run which found an order did not place another.
func (v *victim) resumed(stored bool, placed int) {
	v.t.Helper()
	if stored && v.placed() != placed {
		v.t.Errorf("the order that was stored was not gone on with:\n%s", v.story())
	}
}

func (v *victim) story() string { return strings.Join(v.said, "\n") }

// recover runs the command undisturbed: it converges, and nothing of the killed ones is left. It gives the public key.
func (v *victim) recover(args ...string) (spki string) {
	v.t.Helper()
	stored, placed := v.inFlight(), v.placed()
	v.runs++
	v.said = append(v.said, "-- at last")
	defer func() { v.said = nil }()
	c := v.report(report.CodeOK, args...).Certificates[0]
	if c.Stage != report.Served || !c.Endpoints[0].Matches {
		v.t.Errorf("not in service: %+v", c)
	}
	for _, w := range c.Warnings {
		v.t.Errorf("warning: %s", w)
	}
	v.resumed(stored, placed)
	if orders := v.placed(); orders > v.runs {
		v.t.Errorf("%d orders in %d runs", orders, v.runs)
	}
	if left := v.World.Challenges(); len(left) > 0 {
		v.t.Errorf("TXT records remain: %v", left)
	}
	for _, pattern := range []string{"state/journal/*.json", "state/orders/*.json", "state/lineages/mx/.*", "tls/.*/*"} {
		if left, err := filepath.Glob(v.Path(pattern)); err != nil || len(left) > 0 {
			v.t.Errorf("left behind: %v (%v)", left, err)
		}
	}
	pair, err := tls.LoadX509KeyPair(v.Path("tls", "mx.crt"), v.Path("tls", "mx.key"))
	v.check(err)
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	v.check(err)
	if len(leaf.DNSNames) != 2 {
		v.t.Errorf("the names are %v", leaf.DNSNames)
	}
	v.served = true
	return c.Keys[0].SPKI
}

// A renewal that is killed at any moment leaves the mail server with files that it can use, and the next run brings it
// to its end: without TXT records that remain, and without paying twice for an order whose URL was stored.
func TestKill(t *testing.T) {
	t.Parallel()
	scenarios := []struct {
		name    string
		args    []string
		prepare func(*victim) // before each attempt
	}{
		{"first issue", []string{"renew"}, func(v *victim) {
			for _, path := range []string{"state", "tls/mx.crt", "tls/mx.key"} {
				v.check(os.RemoveAll(v.Path(path)))
			}
			v.served = false
		}},
		{"same key", []string{"renew", "--now"}, func(*victim) {}},
		{"new key", []string{"renew", "--new-key"}, func(*victim) {}},
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			v := &victim{host: newHost(t, lab.Options{}, lab.ConfigOptions{})}
			key := v.recover("renew")
			attempt := func(kill func() bool) bool {
				s.prepare(v)
				alive := kill()
				now := v.recover(s.args...)
				if (now == key) != (s.name == "same key") {
					t.Errorf("the key is the same: %v", now == key)
				}
				key = now
				return alive
			}
			// At each line of progress, until a run comes to its end.
			began, line := time.Now(), 1
			for ; attempt(func() bool { began = time.Now(); return v.kill(line, 0, s.args...) }); line++ {
			}
			if line < 8 {
				t.Errorf("only %d lines of progress", line-1)
			}
			// At any time, several times in a row.
			took := time.Since(began)
			for round := 0; round < 6 || v.kills < 12 && round < 60; round++ { // a run that ends before its kill is none
				attempt(func() bool {
					for range 3 {
						v.kill(0, rand.N(took/2), s.args...)
					}
					return true
				})
			}
			t.Logf("%d kills, %d of them between two renames", v.kills, v.windows)
			if v.kills < 12 {
				t.Errorf("only %d kills: too few to say anything", v.kills)
			}
			if v.windows > 0 && s.name == "same key" {
				t.Errorf("%d times the certificate did not match the key", v.windows)
			}
		})
	}
}

// A run is killed when the CA has been told to look at the records and has not yet done so. The next run does not take
// them away from under its eyes: that would spoil the order, and count as a failed validation.
func TestKillWhileTheCALooks(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Domains: []string{"mx.example.org"}})
	exe, err := os.Executable()
	h.check(err)
	cmd := exec.CommandContext(t.Context(), exe, "-c", h.config, "renew")
	cmd.Args[0], cmd.Env = "mxcert", []string{"GORACE=" + noSleep}
	var tells, asks sync.Once
	told, asked, looked := make(chan struct{}), make(chan struct{}), make(chan struct{})
	h.CA.SetWrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch ca.EndpointOf(r.URL.Path) {
			case ca.Challenge:
				first := false
				tells.Do(func() {
					first = true
					body, _ := io.ReadAll(r.Body)
					close(told)
					<-asked
					again := r.WithContext(context.WithoutCancel(r.Context()))
					again.Body = io.NopCloser(bytes.NewReader(body))
					next.ServeHTTP(httptest.NewRecorder(), again)
					time.Sleep(300 * time.Millisecond) // it looks
					close(looked)
				})
				if first {
					return
				}
			case ca.Order: // the next run has found the order
				asks.Do(func() { close(asked) })
				<-looked
			}
			next.ServeHTTP(w, r)
		})
	})
	h.check(cmd.Start())
	<-told
	h.check(cmd.Process.Kill())
	_ = cmd.Wait()
	if len(h.World.Challenges()) == 0 || h.CA.Count(ca.Challenge) == 0 {
		t.Fatal("no record was made, or the CA was not asked to look: the test proves nothing")
	}
	h.report(report.CodeOK, "renew")
	if n := h.placed(); n != 1 {
		t.Errorf("%d orders", n)
	}
	if left := h.World.Challenges(); len(left) > 0 {
		t.Errorf("TXT records remain: %v", left)
	}
	if left, err := filepath.Glob(h.Path("state", "journal", "*.json")); err != nil || len(left) > 0 {
		t.Errorf("the journal still has %v (%v)", left, err)
	}
}
