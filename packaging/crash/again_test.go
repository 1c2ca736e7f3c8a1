//go:build linux && amd64

package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"mxcert/packaging/crash/tracer"
)

// TestKillAgain: the start after a kill is killed, too, and the one after that, at random calls.
func TestKillAgain(t *testing.T) {
	base := memory(t)
	table := newTable("killed three times", killColumns()...)
	b := makeBundles(t)
	rounds := 4
	if all() {
		rounds = 40
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, s := range append(deployments(b), stores(b)...) {
		if s.careless || s.aim != "new" { // the way back begins with a deployment
			continue
		}
		calls := record(t, base, s)
		row := table.row(s)
		row.add("calls", len(calls)-1)
		for i := range rounds {
			root := filepath.Join(base, fmt.Sprint(i))
			if err := killThrice(t, s, root, row, calls, random); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
			_ = os.RemoveAll(root)
		}
	}
	table.print()
}

// killThrice lets each start die at a random call. Where less is left to do, a start may come to its end.
func killThrice(t *testing.T, s *subject, root string, row *row, calls []tracer.Call, random *rand.Rand) error {
	if err := errors.Join(os.Mkdir(root, 0o755), s.setup(root)); err != nil {
		return err
	}
	var when string
	for range 3 {
		at := random.IntN(len(calls))
		when += fmt.Sprintf("%d ", at)
		var seen []tracer.Call
		killed, said, err := run(s.spec(root), func(c tracer.Call) tracer.Verdict {
			seen = append(seen, c)
			return tracer.Verdict{Kill: c.Index == at}
		})
		if err != nil || said.Failed {
			return fmt.Errorf("killed at %s: %+v %w", when, said, err)
		}
		if killed {
			row.add("kills", 1)
		}
		after := s.see(root)
		if after.state == "broken" && s.window { // an earlier kill may have come between the renames
			row.add("broken", 1)
			continue
		}
		row.saw(t, seen, len(seen)-1, after)
	}
	converges(t, s, root, "killed at "+when, row)
	return nil
}
