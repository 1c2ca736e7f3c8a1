package cli

import (
	"os"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// completes checks what mx2 offers a shell, from its disk: the store is away, and its identity cannot be read.
func (f *fleetOf) completes(mx2 *host) {
	f.t.Helper()
	identity := mx2.Path("credentials", "age")
	mx2.check(os.Rename(identity, identity+".away"))
	defer func() { mx2.check(os.Rename(identity+".away", identity)) }()
	offered := func(words ...string) (list []string) {
		got := mx2.run(append([]string{"__complete"}, words...)...)
		for line := range strings.Lines(got.stdout) {
			if word, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); !strings.HasPrefix(word, ":") {
				list = append(list, word)
			}
		}
		return list
	}
	if got := offered("fleet", "forget", ""); strings.Join(got, " ") != "mx1" {
		f.t.Errorf("hosts to forget: %q", got)
	}
	got := strings.Join(offered("fleet", "recipients", "remove", ""), " ")
	if !strings.HasPrefix(got, "mx1 ") || strings.Count(got, "age1") != 3 || !strings.Contains(got, f.age[0].Recipient().String()) || strings.Contains(got, "mx2") {
		f.t.Errorf("recipients to remove: %q", got)
	}
	for _, words := range [][]string{{"fleet", "forget", "mx1", ""}, {"fleet", "recipients", "remove", "mx1", ""}, {"fleet", "recipients", "add", ""}, {"fleet", "status", ""}} {
		if got := offered(words...); len(got) > 0 {
			f.t.Errorf("after %q: %q", words, got)
		}
	}
}

// Without a fleet nothing is offered, and no file either.
func TestCompletionWithoutAFleet(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if got := h.run("__complete", "fleet", "forget", ""); got.code != report.CodeOK || !strings.HasPrefix(got.stdout, ":4") {
		t.Errorf("%d: %q", got.code, got.stdout)
	}
}
