package pass

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// killEnv names the configuration with which this binary makes one pass, and killAt the step of the progress at which SIGKILL ends it.
const (
	killEnv = "MXCERT_TEST_PASS"
	killAt  = "MXCERT_TEST_KILL_AT"
)

func passAndDie(file string) {
	at, _ := strconv.Atoi(os.Getenv(killAt))
	config, err := configs.Load(file)
	if err != nil {
		panic(err)
	}
	wants, err := wanted.From(config)
	if err != nil {
		panic(err)
	}
	files, err := dying(disk.Open(config.State))
	if err != nil {
		panic(err)
	}
	store, member := state.New(files), memberOf(wants.Fleet, files)
	if member != nil {
		store = state.New(member.Store())
	}
	r, err := New(wants, store, "0.0.0-dev")
	if err != nil {
		panic(err)
	}
	r.Fleet = member
	n := 0
	steps := make(chan bool, 1)
	steps <- true
	r.Run(context.Background(), wants.Certificates[0], optionsOfChild(), func(stage, message string) {
		<-steps
		defer func() { steps <- true }()
		fmt.Println(n, stage, message)
		if n++; n == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
}

// killed makes a pass that SIGKILL ends at a step of its progress, and reports whether it was killed before its end.
func (h *host) killed(at int) (yes bool, out string) {
	h.t.Helper()
	child := exec.CommandContext(h.t.Context(), os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), killEnv+"="+h.config, killAt+"="+strconv.Itoa(at))
	text, err := child.CombinedOutput()
	return err != nil, string(text)
}

// A pass that is killed at any step, with a name that has to be left out, is finished by the next one. Both together place at most one order
// more than an undisturbed pass.
func TestKilledPassWithoutTheName(t *testing.T) {
	t.Parallel()
	for at := 1; ; at++ {
		h := newOptional(t, lab.Options{})
		h.refuseUpdates(true)
		killed, out := h.killed(at)
		if !killed {
			if at < 10 {
				t.Errorf("only %d steps:\n%s", at, out)
			}
			t.Logf("%d steps", at-1)
			return
		}
		orders := h.placed()
		h.without(h.pass(report.CodeOK, renew), "REFUSED")
		if n := h.placed(); n > 3 || orders == 2 && n != 2 {
			t.Errorf("killed at step %d after %d orders, then %d:\n%s", at, orders, n, out)
		}
		h.settled(at)
	}
}

// The same for a pass that takes a name in again: its order is resumed, not placed twice.
func TestKilledPassThatTakesTheNameIn(t *testing.T) {
	t.Parallel()
	for at := 1; ; at++ {
		h := newOptional(t, lab.Options{})
		h.refuseUpdates(true)
		h.pass(report.CodeOK, renew)
		h.refuseUpdates(false)
		h.tryNow()
		killed, out := h.killed(at)
		if !killed {
			if at < 10 {
				t.Errorf("only %d steps:\n%s", at, out)
			}
			t.Logf("%d steps", at-1)
			return
		}
		h.with(h.pass(report.CodeOK, byDaemon))
		if n := h.placed(); n > 4 || n == 4 && !strings.Contains(out, " order ") {
			t.Errorf("killed at step %d, %d orders:\n%s", at, n, out)
		}
		h.settled(at)
	}
}

// settled is a host on which another pass finds nothing to do, and no challenge is left.
func (h *host) settled(at int) {
	h.t.Helper()
	if left := h.World.Challenges(); len(left) > 0 {
		h.t.Errorf("killed at step %d: records remain: %v", at, left)
	}
	if again := h.pass(report.CodeOK, byDaemon); again.Changed {
		h.t.Errorf("killed at step %d: %+v", at, again)
	}
}
