package e2e

import (
	"strings"
	"time"
)

// What mxcert asks of systemd over D-Bus, and of the kernel about processes of root's.

const manager = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager "

// refusedCalls are calls of busctl, separated by newlines. None of them is the reload of a configured unit.
const refusedCalls = manager + `StartUnit ss mxcert-install@x.service replace
` + manager + `StartUnit ss mxcert-hook@0123456789abcdef.service replace
` + manager + `StartUnit ss mxcert-hook@0123456789abcdef.service flush
` + manager + `StartUnit ss mxcert-install@1-1-1.service replace-irreversibly
` + manager + `StartUnit ss mxcert.service replace
` + manager + `StartUnit ss exim4.service replace
` + manager + `StartUnit ss rescue.target isolate
` + manager + `StartUnit ss reboot.target replace
` + manager + `StopUnit ss exim4.service replace
` + manager + `StopUnit ss mxcert.service replace
` + manager + `StopUnit ss mxcert-install.socket replace
` + manager + `RestartUnit ss exim4.service replace
` + manager + `TryRestartUnit ss exim4.service replace
` + manager + `ReloadOrRestartUnit ss exim4.service replace
` + manager + `ReloadOrTryRestartUnit ss exim4.service replace
` + manager + `ReloadUnit ss named.service replace
` + manager + `ReloadUnit ss exim4.service.d replace
` + manager + `KillUnit ssi exim4.service all 9
` + manager + `KillUnit ssi mxcert-hook@x.service all 9
` + manager + `SetUnitProperties sba(sv) exim4.service true 1 CPUWeight t 1
` + manager + `SetUnitProperties sba(sv) system-mxcert.slice true 1 MemoryMax t 18446744073709551615
` + manager + `EnableUnitFiles asbb 1 mxcert-renew.timer false true
` + manager + `DisableUnitFiles asb 1 exim4.service false
` + manager + `MaskUnitFiles asbb 1 exim4.service true true
` + manager + `LinkUnitFiles asbb 1 /var/lib/mxcert/x.service false true
` + manager + `SetDefaultTarget sb rescue.target true
` + manager + `SetEnvironment as 1 LD_PRELOAD=/var/lib/mxcert/x.so
` + manager + `UnsetEnvironment as 1 PATH
` + manager + `Reload
` + manager + `Reexecute
` + manager + `Reboot
` + manager + `PowerOff
` + manager + `Exit
` + manager + `ResetFailed
` + manager + `CancelJob u 1
` + manager + `ClearJobs
` + manager + `AttachProcessesToUnit ssau exim4.service / 1 1
` + manager + `BindMountUnit sssbb exim4.service /etc/shadow /tmp/x false false
` + manager + `StartTransientUnit ssa(sv)a(sa(sv)) mxcert-hook@0123456789abcdef.service fail 1 ExecStart a(sasb) 1 /bin/touch 2 /bin/touch /root/pwned false 0
` + manager + `StartTransientUnit ssa(sv)a(sa(sv)) mxcert-install@x.service replace 1 ExecStart a(sasb) 1 /bin/touch 2 /bin/touch /root/pwned false 0
` + manager + `StartTransientUnit ssa(sv)a(sa(sv)) any.service fail 1 ExecStart a(sasb) 1 /bin/touch 2 /bin/touch /root/pwned false 0
` + manager + `StartTransientUnit ssa(sv)a(sa(sv)) run.scope fail 1 PIDs au 1 1 0
org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/exim4_2eservice org.freedesktop.systemd1.Unit Restart s replace
org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/exim4_2eservice org.freedesktop.systemd1.Unit Stop s replace
org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/exim4_2eservice org.freedesktop.systemd1.Unit Kill si all 9
org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/exim4_2eservice org.freedesktop.systemd1.Unit Freeze`

// call makes one call as mxcert.
func (w *walled) call(line string) (refused bool, said string) {
	w.t.Helper()
	r := w.asMxcertRun(append([]string{"busctl", "--timeout=10", "call"}, strings.Fields(line)...)...)
	return r.Code != 0, r.Stderr + r.Stdout
}

// callsOverTheBus makes every call that is not the one that the service needs.
func callsOverTheBus(w *walled) {
	unchanged := w.watch(targets...)
	pid, err := w.EximPID()
	w.check(err)
	calls := strings.Split(refusedCalls, "\n")
	for _, line := range calls {
		refused, said := w.call(line)
		if !refused {
			w.t.Errorf("%s: %s", line, said)
		}
		for _, word := range []string{"Too few parameters", "Unknown method", "Invalid arguments", "Failed to parse", "signature"} {
			if strings.Contains(said, word) {
				w.t.Errorf("the call itself is wrong: %s: %s", line, said)
			}
		}
	}
	figure(w.t, "%d calls refused", len(calls))
	if refused, said := w.call(manager + "ReloadUnit ss exim4.service replace"); refused {
		w.t.Errorf("the reload of a configured unit: %s", said)
	}
	if now, err := w.EximPID(); err != nil || now != pid {
		w.t.Errorf("Exim was %d and is %d, %v", pid, now, err)
	}
	unchanged()
}

// No rule lets mxcert start a unit, whatever its name; the only rule allows reloads.
func noUnitIsStarted(w *walled) {
	for _, name := range []string{"mxcert-hook@0123456789abcdef.service", "mxcert-install@1-1-1.service", "mxcert.service", "mxcert-renew.service", "exim4.service", "x.service"} {
		for _, line := range []string{"StartUnit ss " + name + " replace", "StartTransientUnit ssa(sv)a(sa(sv)) " + name + " fail 1 ExecStart a(sasb) 1 /bin/true 1 /bin/true false 0"} {
			if refused, said := w.call(manager + line); !refused {
				w.t.Errorf("%s: %s", line, said)
			} else if !strings.Contains(said, "authentication required") && !strings.Contains(said, "ccess denied") && !strings.Contains(said, "has fragment file") && !strings.Contains(said, "already") {
				w.t.Errorf("%s is refused for another reason: %s", line, said)
			}
		}
	}
	rules := must(w.t, w.Host, "sh", "-c", `grep -rl mxcert /etc/polkit-1 /usr/share/polkit-1 /var/lib/polkit-1 2>/dev/null; true`)
	if rules != "/etc/polkit-1/rules.d/50-mxcert.rules\n" {
		w.t.Errorf("rules that name mxcert: %q", rules)
	}
	text := must(w.t, w.Host, "cat", "/etc/polkit-1/rules.d/50-mxcert.rules")
	if !strings.Contains(text, `action.lookup("verb") == "reload"`) || strings.Count(text, "Result.YES") != 1 || strings.Contains(text, "start") {
		w.t.Errorf("the rule is\n%s", text)
	}
}

// spy tries to read a process that root has started, by all ways that the kernel has, and prints those that worked.
const spy = `
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
class vec(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
def ways(pid):
    first = 0x400000
    for name in ("environ", "maps", "auxv", "stack", "syscall"): # of a process that has ended, some can be opened and are empty
        try:
            text = open("/proc/%d/%s" % (pid, name), "rb").read(16)
            if text: yield name
            if name == "maps" and text: first = int(text.split(b"-")[0], 16)
        except OSError: pass
    try:
        if os.pread(os.open("/proc/%d/mem" % pid, os.O_RDONLY), 16, first): yield "mem"
    except OSError: pass
    for name in ("fd", "map_files"):
        try: os.listdir("/proc/%d/%s" % (pid, name)); yield name
        except OSError: pass
    for name in ("exe", "cwd", "root"):
        try: os.readlink("/proc/%d/%s" % (pid, name)); yield name
        except OSError: pass
    buffer = ctypes.create_string_buffer(64)
    local, remote = vec(ctypes.addressof(buffer), 64), vec(first, 64)
    ctypes.set_errno(0)
    if libc.process_vm_readv(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) >= 0 or ctypes.get_errno() == 14: yield "process_vm_readv"
    if libc.ptrace(16, pid, 0, 0) == 0: # PTRACE_ATTACH
        os.waitpid(pid, 0x40000000); libc.ptrace(17, pid, 0, 0); yield "ptrace"
def mxcerts():
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if open("/proc/%s/comm" % entry).read() == "mxcert\n" and os.stat("/proc/%s" % entry) and "Uid:\t%d\t" % os.getuid() in open("/proc/%s/status" % entry).read(): yield int(entry)
            except OSError: pass
own = os.fork()
if own == 0: os.execv("/bin/sleep", ["sleep", "30"])
time.sleep(0.2)
print("own:", *ways(own))
os.kill(own, 9)
seen, end = {}, time.time() + float(sys.argv[1])
while time.time() < end:
    for pid in mxcerts():
        found = sorted(set(ways(pid)))
        seen[pid] = seen.get(pid, 0) + 1
        if found: print("LEAK", pid, *found)
print("looks:", sum(seen.values()), "processes:", len(seen))
`

// processesOfRoot looks at every command of root's, and at the daemon, while they run.
func processesOfRoot(w *walled) {
	must(w.t, w.Host, "systemctl", "start", "mxcert.service")
	defer must(w.t, w.Host, "systemctl", "stop", "mxcert.service")
	done := make(chan string)
	go func() {
		ctx, cancel := withTimeout(w.t, time.Minute)
		defer cancel()
		r, err := w.Run(ctx, "setpriv", "--reuid=mxcert", "--regid=mxcert", "--init-groups", "--", "python3", "-c", spy, "6")
		if err != nil {
			r.Stdout += err.Error()
		}
		done <- r.Stdout + r.Stderr
	}()
	w.rootRunsAll()
	out := <-done
	for _, way := range []string{"environ", "mem", "maps", "fd", "process_vm_readv", "ptrace"} {
		if own, _, _ := strings.Cut(out, "\n"); !strings.Contains(own, way) {
			w.t.Errorf("the attacker cannot look at a process of his own by %s, so this shows nothing:\n%s", way, out)
		}
	}
	if strings.Contains(out, "LEAK") || !strings.Contains(out, "looks:") || strings.Contains(out, "processes: 1\n") || strings.Contains(out, "processes: 0\n") {
		w.t.Errorf("looks at mxcert's processes:\n%.2000s", out)
	}
	figure(w.t, "%s", strings.TrimSpace(out))
}
