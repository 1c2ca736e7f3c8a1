package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// As process 1 of a container mxcert gives its exit code, takes signals, and leaves no orphan of a hook as a zombie.
func TestFirstProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a PID namespace")
	}
	bin := filepath.Join(t.TempDir(), "mxcert")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	first := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--pid", "--fork", "--kill-child", "--mount-proc", bin}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		return cmd
	}
	out, err := first("version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "mxcert ") {
		t.Errorf("version: %v: %s", err, out)
	}
	var exit *exec.ExitError
	if out, err := first("nosuch").CombinedOutput(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("an unknown command: %v: %s", err, out)
	}

	config := filepath.Join(t.TempDir(), "mxcert.yaml")
	// A provider that hangs until it is stopped; its child loses its parent and ends as a child of process 1.
	script, ran := filepath.Join(filepath.Dir(config), "script"), filepath.Join(filepath.Dir(config), "ran")
	check(t, os.WriteFile(script, []byte("#!/bin/sh\nsetsid sh -c 'sleep 0.1 & exec sleep 0.2' &\ntouch '"+ran+"'\n"), 0o755))
	check(t, os.MkdirAll(filepath.Join(filepath.Dir(config), "hooks", "fail.d"), 0o755))
	check(t, os.Rename(script, filepath.Join(filepath.Dir(config), "hooks", "fail.d", "10-fork")))
	check(t, os.WriteFile(config, []byte(`acme: {agree_tos: true, directory: "http://127.0.0.1:1/dir"}
dns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "127.0.0.1:1"}}
state: `+filepath.Join(filepath.Dir(config), "state")+`
hooks: {directory: `+filepath.Join(filepath.Dir(config), "hooks")+`}
certificates: [{name: mx, domains: [mx.example.org], deploy: [{files: {combined: `+filepath.Join(filepath.Dir(config), "mx.pem")+`}}]}]
`), 0o600))
	run := first("-c", config, "run")
	var log strings.Builder
	run.Stdout, run.Stderr = &log, &log
	check(t, run.Start())
	var pid string
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) { // a process that has just ended is not reaped yet
		_, hookErr := os.Stat(ran)
		pid = childOf(t, run.Process.Pid)
		states, err := exec.CommandContext(t.Context(), "nsenter", "-t", pid, "-p", "-m", "ps", "-eo", "stat,ppid,comm").CombinedOutput()
		if hookErr == nil && err == nil && strings.Count(string(states), "mxcert") == 2 && !strings.Contains(string(states), "\nZ") && !strings.Contains(string(states), "sleep") {
			break
		}
		if time.Now().After(end) {
			t.Errorf("the hook: %v; %v: processes:\n%s", hookErr, err, states)
			break
		}
	}
	check(t, exec.CommandContext(t.Context(), "kill", "-TERM", pid).Run())
	began := time.Now()
	if err := run.Wait(); err != nil || time.Since(began) > time.Minute {
		t.Errorf("after SIGTERM: %v after %s\n%s", err, time.Since(began), log.String())
	}
	if !strings.Contains(log.String(), "stopping") {
		t.Errorf("the daemon was not told to stop:\n%s", log.String())
	}
}

// childOf returns the number of the only child of a process.
func childOf(t *testing.T, parent int) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "--ppid", strconv.Itoa(parent), "-o", "pid=").Output()
	check(t, err)
	return strings.TrimSpace(string(out))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
