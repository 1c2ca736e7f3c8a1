package daemon

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"mxcert/cmd/mxcert/internal/report"
)

// resident is a line of the process's proc_pid_status(5), in KiB.
func resident(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), name+":")
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

// restsAlone says that the process was started for one measurement: what other tests left behind grows and shrinks meanwhile.
const restsAlone = "MXCERT_TEST_RESTS_ALONE"

// Memory that passes needed is returned to the system.
func TestRest(t *testing.T) {
	if os.Getenv(restsAlone) == "" {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe, "-test.run", "^TestRest$", "-test.v")
		cmd.Env = append(os.Environ(), restsAlone+"=yes")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestRest") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	rubbish := make([]byte, 64<<20)
	for i := range rubbish {
		rubbish[i] = byte(i)
	}
	if rubbish[len(rubbish)-1] == 0 {
		t.Fatal("the memory is not in use")
	}
	runtime.GC() // what it frees is not returned yet; the race detector needs memory to note that it is free
	own := resident(t, "RssAnon")
	(&Daemon{}).rest()
	if now := resident(t, "RssAnon"); now > own-(48<<10) {
		t.Errorf("of %d KiB, %d are left", own, now)
	}
}

// deadPID is a process that has ended.
func deadPID(t *testing.T) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// A daemon that was killed leaves its status behind, and does not run.
func TestRunning(t *testing.T) {
	t.Parallel()
	h := desert(t)
	store := h.store()
	if r := Running(store); r != nil {
		t.Errorf("before any daemon: %+v", r)
	}
	for _, tt := range []struct {
		what string
		pid  int
		runs bool
	}{{"this process", os.Getpid(), true}, {"init, of another user for most", 1, true}, {"a process that has ended", deadPID(t), false}, {"no process", 0, false}, {"every process", -1, false}, {"a process group", -os.Getpid(), false}} {
		h.check(store.SaveDaemon(report.Daemon{PID: tt.pid, Version: "1"}))
		if r := Running(store); (r != nil) != tt.runs || tt.runs && r.Version != "1" {
			t.Errorf("%s: %+v", tt.what, r)
		}
	}
	h.check(os.WriteFile(h.Path("state", "daemon.json"), []byte("{"), 0o600))
	if r := Running(store); r != nil {
		t.Errorf("a damaged file: %+v", r)
	}
}

// A process of another user exists although it cannot be signalled.
func TestAlive(t *testing.T) {
	t.Parallel()
	exists := false
	asOther(t, func() { exists = alive(1) })
	if !exists {
		t.Error("init is not alive")
	}
}

// A status that cannot be stored is a warning: the work goes on.
func TestStatusThatCannotBeStored(t *testing.T) {
	t.Parallel()
	h := desert(t)
	d, log := h.atRest()
	h.check(os.RemoveAll(h.Path("state")))
	h.check(os.WriteFile(h.Path("state"), nil, 0o600))
	d.setStatus(func(s *report.Daemon) { s.Socket = "here" })
	if !log.has("level=WARN", "the daemon's status could not be stored") || d.status.Socket != "here" {
		t.Errorf("status %+v, log:\n%s", d.status, log)
	}
}

// Notes of an earlier daemon never keep the next one from starting, whatever has taken their places.
func TestStartsWhateverItsNotesAre(t *testing.T) {
	t.Parallel()
	for what, put := range map[string]func(path string) error{
		"a directory":       func(path string) error { return os.MkdirAll(path+"/in/it", 0o700) },
		"a link to nothing": func(path string) error { return os.Symlink("none", path) },
		"a link to itself":  func(path string) error { return os.Symlink(path, path) },
		"a pipe":            func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		h := desert(t)
		store := h.store()
		for _, name := range []string{"running.yaml", "daemon.json", "daemon.lock", "lock", "usage.lock", "lineages/mx/lock"} {
			h.check(os.MkdirAll(filepath.Dir(h.Path("state", name)), 0o700))
			h.check(put(h.Path("state", name)))
		}
		ctx, cancel := context.WithCancel(t.Context())
		log, ended := &transcript{}, make(chan error, 1)
		d := newDaemon(h.config, log)
		go func() { ended <- d.Run(ctx) }()
		eventually(t, "a daemon in spite of "+what, func() bool {
			_, text, err := store.RunningConfig()
			return err == nil && len(text) > 0 && Running(store) != nil && log.has("certificate=mx")
		})
		cancel()
		if err := <-ended; err != nil || log.has("could not be stored") || log.has("is a directory") {
			t.Errorf("%s: %v\n%s", what, err, log)
		}
		d.idle.Stop()
	}
}
