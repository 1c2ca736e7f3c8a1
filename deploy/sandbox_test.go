package deploy_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"mxcert/deploy"
)

// sandboxEnv says that this process is the child of a test, and may restrict itself.
const sandboxEnv = "MXCERT_TEST_SANDBOX"

// TestSandboxedSetgid: the install helper runs with RestrictSUIDSGID=yes, and deploys into a setgid directory of root's. Files get the
// group of the directory, and the group can search the staging directory, so that the server can try the files there.
func TestSandboxedSetgid(t *testing.T) {
	needRoot(t, "make a directory of another group")
	if os.Getenv(sandboxEnv) == "" {
		child := exec.Command(os.Args[0], "-test.run=^TestSandboxedSetgid$")
		child.Env = append(os.Environ(), sandboxEnv+"=1")
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
		return
	}
	_, gid := ids(t)
	var targets []deploy.Target
	for _, layout := range []func(string) deploy.Target{pair, combined, generation, func(dir string) deploy.Target { return sni(dir, "mx") }} {
		dir := t.TempDir()
		own(t, dir, [2]int{0, gid})
		chmod(t, dir, 0o750|os.ModeSetgid)
		targets = append(targets, layout(dir))
	}
	restrictSetgid(t)
	if err := os.Chmod(t.TempDir(), 0o750|os.ModeSetgid); !errors.Is(err, unix.EPERM) {
		t.Fatalf("the sandbox permits the bit: %v", err)
	}
	for _, target := range targets {
		deployIntoSetgid(t, target, gid)
	}
}

func deployIntoSetgid(t *testing.T, target deploy.Target, gid int) {
	t.Helper()
	if err := deploy.Check([]deploy.Target{target}, nil); err != nil {
		t.Fatal(err)
	}
	first := fresh(t, 1)
	second := renewed(t, first, 2)
	p := plan(t, first, target)
	tried := false
	p.Try(func(staged []deploy.Target) error {
		tried = true
		for _, path := range staged[0].Places(first) {
			if s := stat(t, filepath.Dir(path)); path != target.SNIMap && (s.Gid != uint32(gid) || s.Mode&0o777 != 0o710 && s.Mode&0o777 != 0o750) {
				t.Errorf("%s has group %d, mode %04o", filepath.Dir(path), s.Gid, s.Mode&0o7777)
			}
		}
		return nil
	})
	if err := p.Apply(keepNothing); err != nil || !tried {
		t.Fatal(err)
	}
	p = plan(t, second, target)
	if err := errors.Join(p.Apply(keepNothing), p.Revert()); err != nil {
		t.Fatal(err)
	}
	paths := target.Files(first)
	if target.Directory != "" {
		paths = append(paths, filepath.Dir(target.Directory)+"/"+readlink(t, target.Directory), target.Directory+".generations")
	}
	for _, path := range paths {
		if s := stat(t, path); s.Gid != uint32(gid) {
			t.Errorf("%s has group %d, want %d", path, s.Gid, gid)
		}
	}
}

// restrictSetgid makes the kernel refuse setuid and setgid bits to this process, as systemd does for RestrictSUIDSGID=yes: it also takes
// openat2(2) away, whose mode a filter cannot see.
func restrictSetgid(t *testing.T) {
	t.Helper()
	const load, equal, anyBit, end = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{{Code: load, K: 0}, // the number of the system call
		{Code: equal, K: unix.SYS_OPENAT2, Jf: 1}, {Code: end, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}}
	for _, call := range []struct{ number, mode uint32 }{{unix.SYS_FCHMOD, 1}, {unix.SYS_FCHMODAT, 2}, {unix.SYS_FCHMODAT2, 2}, {unix.SYS_MKDIRAT, 2}, {unix.SYS_OPENAT, 3}} {
		filter = append(filter, unix.SockFilter{Code: equal, K: call.number, Jf: 4},
			unix.SockFilter{Code: load, K: 16 + 8*call.mode}, unix.SockFilter{Code: anyBit, K: unix.S_ISUID | unix.S_ISGID, Jf: 1},
			unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW})
	}
	filter = append(filter, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
		t.Fatal(errno)
	}
}
