// Package failures_test checks what packaging/test.sh prints of tests that fail: by recorded outputs of go test -race -v.
package failures_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Subtests, parallel tests, a race, a panic and what does not compile: each is there with the first lines that it said, and no log of a daemon.
func TestFirstLines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ output, want, setting string }{
		{"failed.txt", "failed.want", "most=80"},
		{"failed.txt", "short.want", "most=20"},
		{"skipped.txt", "skipped.want", "skips=1"},
		{"vet.txt", "vet.want", "most=80"},
	} {
		want, err := os.ReadFile("testdata/" + tt.want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := exec.CommandContext(t.Context(), "awk", "-v", tt.setting, "-f", "failures.awk", "testdata/"+tt.output).CombinedOutput()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s with %s: %v\n%s", tt.output, tt.setting, err, got)
		}
	}
}

// However many tests fail, it is as short as it was asked to be.
func TestShort(t *testing.T) {
	t.Parallel()
	output, err := os.ReadFile("testdata/failed.txt")
	if err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "awk", "-f", "failures.awk")
	run.Stdin = bytes.NewReader(bytes.Repeat(output, 20))
	got, err := run.CombinedOutput()
	if lines := strings.Count(string(got), "\n"); err != nil || lines > 80 || lines < 60 {
		t.Errorf("%d lines, %v:\n%s", lines, err, got)
	}
}
