//go:build linux && amd64

// Package crash proves that a deployment and the state store survive everything: kill -9 at every system call, every
// error at every call, short writes, full disks, and power cuts on ext4. After each case it looks at the files as a mail
// server would, runs the operation again and looks once more. Careless ways to replace a certificate go through the same
// mill, so that the harness proves that it can see.
//
// A part of the cases runs by default; MXCERT_CRASH=all (`make crash`) runs all of them. Power cuts need root and a loop
// device.
package crash

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"mxcert/packaging/crash/operation"
	"mxcert/packaging/crash/tracer"
)

// victim is the program that is killed.
var victim string

func TestMain(m *testing.M) {
	if os.Geteuid() == 0 && os.Getenv(ownMounts) == "" {
		os.Exit(inOwnNamespace())
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "mxcert-crash-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		victim = filepath.Join(dir, "victim")
		build := exec.Command("go", "build", "-o", victim, "./victim")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
			return 1
		}
		if err := os.Chmod(dir, 0o755); err != nil { // the service's user runs it, too
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// ownMounts says that this process has a mount namespace to itself.
const ownMounts = "MXCERT_TEST_OWN_MOUNTS"

// inOwnNamespace runs the tests where what they mount is gone with them, however they end (mount_namespaces(7)).
func inOwnNamespace() int {
	inner := exec.Command("/proc/self/exe", os.Args[1:]...)
	inner.Env = append(os.Environ(), ownMounts+"=1")
	inner.Stdin, inner.Stdout, inner.Stderr = os.Stdin, os.Stdout, os.Stderr
	inner.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // it would die with the thread that started it
	err := inner.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(1, exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// all says that every case runs.
func all() bool { return os.Getenv("MXCERT_CRASH") == "all" }

// report is what the victim says.
type report struct {
	Failed        bool
	Message, Hint string
}

// run runs the operation under the eyes of at.
func run(spec operation.Spec, at func(tracer.Call) tracer.Verdict, args ...string) (killed bool, said report, err error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return false, said, err
	}
	result, err := tracer.Run(append([]string{victim, string(text)}, args...), environment(), at)
	if err != nil || result.Killed {
		return result.Killed, said, err
	}
	if result.Status != 0 {
		return false, said, fmt.Errorf("the victim ended with status %d: %s", result.Status, result.Stderr)
	}
	return false, said, json.Unmarshal(result.Stdout, &said)
}

// environment of the victim: a preempted goroutine would make calls fail with EINTR now and then.
func environment() []string {
	return []string{"GODEBUG=asyncpreemptoff=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
}

// record runs the operation once, and lists its calls; the last is "end".
func record(t *testing.T, base string, s *subject) []tracer.Call {
	t.Helper()
	root := filepath.Join(base, "record")
	defer os.RemoveAll(root)
	if err := errors.Join(os.Mkdir(root, 0o755), s.setup(root)); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	var calls []tracer.Call
	_, said, err := run(s.spec(root), func(c tracer.Call) tracer.Verdict {
		calls = append(calls, c)
		return tracer.Verdict{}
	})
	if err != nil || said.Failed {
		t.Fatalf("%s: %v %+v", s.name, err, said)
	}
	if after := s.see(root); after.state != s.aim || len(after.left) > 0 {
		t.Fatalf("%s ends with %+v", s.name, after)
	}
	return calls
}

// each calls f with 0 to n-1, several at a time.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.NumCPU() {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
