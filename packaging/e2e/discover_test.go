package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// The tests of deploy/discover with the tag mailhost ask the real servers, and do what the hints say, on a host of their own.
func TestDiscoverOnTheMailHost(t *testing.T) {
	for _, tt := range []struct {
		server mailhost.Server
		run    string
	}{{mailhost.Exim, "^TestMailhostExpressions|^TestMailhostExim"}, {mailhost.Postfix, "^TestMailhostPostfix|^TestMailhostDovecot"}} {
		t.Run(string(tt.server), func(t *testing.T) {
			t.Parallel()
			mailhost.Require(t)
			program := filepath.Join(t.TempDir(), "discover.test")
			build := exec.Command("go", "test", "-c", "-tags", "mailhost", "-o", program, "mxcert/deploy/discover")
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			content, err := os.ReadFile(program)
			if err != nil {
				t.Fatal(err)
			}
			h, err := mailhost.Boot(t.Context(), mailhost.Options{Server: tt.server, Logf: t.Logf})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(h.Kill)
			if err := h.Put("/root/discover.test", content, 0o755); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // it starts Exim some thousand times
			defer cancel()
			r, err := h.Run(ctx, "/root/discover.test", "-test.v", "-test.run", tt.run)
			passed := strings.Count(r.Stdout, "--- PASS")
			if err != nil || r.Code != 0 || passed < 10 || strings.Contains(r.Stdout, "--- SKIP") {
				t.Errorf("exit code %d, %d passed, %v\n%s%s", r.Code, passed, err, r.Stdout, r.Stderr)
			}
			figure(t, "%d tests of discover with the real servers", passed)
		})
	}
}
