package lab

import (
	"errors"
	"testing"
)

// Neighbour starts another mail host in the same world: with a directory and an SMTP server of its own, and the CA, the names and the name
// servers of this lab. The test's end closes it.
func (l *Lab) Neighbour(t testing.TB, name string) *Lab {
	t.Helper()
	n := &Lab{Directory: l.Path("hosts", name), CA: l.CA, World: l.World, Primary: l.Primary, Secondaries: l.Secondaries, opts: l.opts, secret: l.secret}
	n.opts.SMTPListen = ""
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close the host %s: %v", name, err)
		}
	})
	for _, step := range []func() error{n.makeDirectory, n.startSMTP, n.writeFiles} {
		if err := step(); err != nil {
			t.Fatal(errors.Join(err, n.Close()))
		}
	}
	return n
}
