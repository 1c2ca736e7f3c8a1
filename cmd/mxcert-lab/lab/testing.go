package lab

import (
	"os"
	"testing"
)

// New starts a lab for a test, in the test's temporary directory, and closes it at the test's end.
func New(t testing.TB, opts Options) *Lab {
	t.Helper()
	if opts.Directory == "" {
		opts.Directory = t.TempDir()
	}
	l, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return l
}

// WriteConfig writes the configuration to mxcert.yaml in the lab's directory and gives its path.
func (l *Lab) WriteConfig(t testing.TB, opts ConfigOptions) string {
	t.Helper()
	path := l.Path("mxcert.yaml")
	if err := os.WriteFile(path, []byte(l.Config(opts)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
