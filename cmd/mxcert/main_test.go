package main

import (
	"bytes"
	"regexp"
	"testing"

	"mxcert/cmd/mxcert/internal/cli"
)

// The program knows which version of lego it was built with: from its own build information, which the tests of other packages
// do not have.
func TestVersionNamesLego(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if code := cli.Run(t.Context(), release, []string{"version"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	if want := regexp.MustCompile(`^mxcert \S+ \(go1\.\S+, linux/\S+, lego v4\.\S+\)\n$`); !want.Match(stdout.Bytes()) {
		t.Errorf("mxcert version prints %q", &stdout)
	}
}
