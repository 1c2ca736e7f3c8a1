package run_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestAfter: what a program leaves behind may finish its work, if the caller says so, and is killed if it takes too long.
func TestAfter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what     string
		after    time.Duration
		child    string
		finishes bool
	}{
		{"at once", 0, "sleep 0.3; echo >DONE", false},
		{"later", time.Minute, "sleep 0.3; echo >DONE", true},
		{"too late", 50 * time.Millisecond, "sleep 60; echo >DONE", false},
		{"out of the group", time.Minute, "sleep 0.1; echo >DONE; exec setsid sleep 60", true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			done := filepath.Join(t.TempDir(), "done")
			c := shell("(" + strings.ReplaceAll(tt.child, "DONE", done) + ") >/dev/null 2>&1 & echo $!")
			c.After = tt.after
			out, err := c.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(done); (err == nil) != tt.finishes {
				t.Errorf("its work is done: %v", err == nil)
			}
			pid, _ := strconv.Atoi(strings.TrimSpace(out.Stdout))
			if p, err := os.FindProcess(pid); tt.what == "out of the group" && err == nil {
				defer func() { _ = p.Kill() }()
				if !alive(pid) {
					t.Error("what is out of its group was killed")
				}
			} else if !gone(pid) {
				t.Error("its child is still there")
			}
		})
	}
}
