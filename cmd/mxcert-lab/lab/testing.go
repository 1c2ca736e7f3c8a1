package lab

import (
	"os"
	"testing"

	"mxcert/cmd/mxcert-lab/ca"
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

// WriteConfig writes the configuration to mxcert.yaml in the lab's directory and returns its path.
func (l *Lab) WriteConfig(t testing.TB, opts ConfigOptions) string {
	t.Helper()
	path := l.Path("mxcert.yaml")
	if err := os.WriteFile(path, []byte(l.Config(opts)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// AddCA starts another CA for the same names, which the test's end closes. The files ca.pem and roots.pem then hold the roots of
// both; the configuration does not name it yet.
func (l *Lab) AddCA(t testing.TB, opts ca.Options) *ca.CA {
	t.Helper()
	opts.Resolver = l.Primary.Address()
	second, err := ca.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close() })
	for name, more := range map[string][]byte{"ca.pem": second.HTTPSRoots(), "roots.pem": second.Roots()} {
		text, err := os.ReadFile(l.Path(name))
		if err == nil {
			err = os.WriteFile(l.Path(name), append(text, more...), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return second
}
