package helper

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// A helper stays for as long as its unit has other processes, and no longer than ten minutes; one that is in no unit does not stay.
func TestAwaitDelivery(t *testing.T) {
	dir := t.TempDir()
	list, root := filepath.Join(dir, "cgroup"), filepath.Join(dir, "fs")
	unit := filepath.Join(root, "system.slice/system-mxcert.slice/mxcert-hook@3-77-0.service")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(unit, 0o755))
	check(os.WriteFile(filepath.Join(unit, "cgroup.procs"), nil, 0o600))
	const hybrid = "unified/system.slice/mxcert-hook@4.service/cgroup.procs"
	check(os.MkdirAll(filepath.Dir(filepath.Join(root, hybrid)), 0o755))
	check(os.WriteFile(filepath.Join(root, hybrid), nil, 0o600))
	for text, want := range map[string]string{
		"0::/system.slice/system-mxcert.slice/mxcert-hook@3-77-0.service\n":                            filepath.Join(unit, "cgroup.procs"),
		"9:name=systemd:/system.slice/mxcert-hook@4.service\n0::/system.slice/mxcert-hook@4.service\n": filepath.Join(root, hybrid),
		"0::/system.slice/mxcert-hook@5.service\n":                                                     "",
		"1:name=systemd:/x\n0::/user.slice/user-0.slice/session-1.scope\n":                             "",
		"12:pids:/system.slice/system-mxcert.slice/mxcert-hook@3-77-0.service\n0::/\n":                 "",
		"": "",
	} {
		check(os.WriteFile(list, []byte(text), 0o600))
		if got := ownUnit(list, root); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	processes := filepath.Join(unit, "cgroup.procs")
	stays := func(change func(cancel func())) time.Duration {
		var took time.Duration
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			start := time.Now()
			defer time.AfterFunc(time.Minute, func() { change(cancel) }).Stop()
			awaitAlone(ctx, processes)
			took = time.Since(start)
		})
		return took
	}
	check(os.Remove(processes))
	if took := stays(func(func()) {}); took != 0 {
		t.Errorf("without a unit it stays for %v", took)
	}
	check(os.WriteFile(processes, []byte("77\n99\n"), 0o600))
	if took := stays(func(func()) { check(os.WriteFile(processes, []byte("77\n"), 0o600)) }); took < time.Minute || took > time.Minute+2*mostRest {
		t.Errorf("with a delivery of a minute it stays for %v", took)
	}
	check(os.WriteFile(processes, []byte("77\n99\n"), 0o600))
	if took := stays(func(func()) {}); took != deliveryTime {
		t.Errorf("with one that does not end it stays for %v", took)
	}
	if took := stays(func(cancel func()) { cancel() }); took != time.Minute {
		t.Errorf("stopped after a minute, it stays for %v", took)
	}
}
