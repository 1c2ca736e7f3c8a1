# attacker.py SEED ACTIONS: whoever has taken over the service. Runs as mxcert, with its groups, and does ACTIONS random things wherever it
# can write, at every socket and over D-Bus, one after the other. Now and then it puts the state back as it was, so that root's commands get
# further than to the first fault.
#
# What it could read of others it keeps in /var/tmp/loot. At the end it prints a line of JSON: what it did, and of the things that must fail
# those that did not.
import ctypes, fcntl, json, os, random, signal, socket, subprocess, sys, threading, time

seed, actions = int(sys.argv[1]), int(sys.argv[2])
rng = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
STATE, KEYS, LOOT, GOOD = "/var/lib/mxcert", "/var/lib/mxcert-keys", "/var/tmp/loot", "/var/tmp/good"
PRECIOUS = ["/srv/precious", "/srv/precious/secret", "/srv/precious/record.json", "/srv/precious/privkey.pem", "/etc/shadow", "/etc/passwd", "/etc/cron.d", "/etc/exim4",
            "/etc/exim4/exim.key", "/etc/mxcert/mxcert.yaml", "/etc/mxcert/credentials", "/root", "/var/lib/mxcert-install", "/dev/zero", "/dev/full", "/dev/tty", "/dev/stdin",
            "/proc/self/mem", "/proc/1/environ", "/run/mxcert-helpers/install.sock", "/run/systemd/private", "/usr/bin/mxcert", "..", "../..", "/", "/nonexistent/x"]
NAMES = ["record.json", "meta.json", "account.json", "usage.json", "daemon.json", "running.yaml", "daemon.lock", "lock", "usage.lock", "control.sock", "fullchain.pem", "privkey.pem",
         "cert.pem", "chain.pem", "revoked.json", "displaced", ".tmp-1", ".new-1", "mx", "own", "lineages", "accounts", "orders", "journal", "generations", "$(id)", "-rf", "a\nb", "\x1b]0;x\x07",
         "\u202e", "mx.20260101T000000000Z-00000001.json", "gone.20260101T000000000Z-00000002.json", "20260101T000000000Z-00000003", "x" * 200]
EVIL = ["\x1b]0;pwned\x07", "\x1b[2J", "\u202epwned\u2066", "\r\n", "\x00", "\x9b31m", "../../etc/cron.d/x", "/etc/shadow", "$(id)", "`id`", "-rf", "a" * 70000, "\ud800", "mx", "own", ""]
done, holds, wins, lock = {}, [], [], threading.Lock()


def places():
    """All directories of the host in which this user may make files, from one walk."""
    found = []
    for top, names, _ in os.walk("/"):
        names[:] = [n for n in names if os.path.join(top, n) not in ("/proc", "/sys", LOOT, "/var/lib/mxcert", "/var/lib/mxcert-keys")]
        if os.access(top, os.W_OK | os.X_OK):
            found.append(top)
    return found


def some(root, most=400):
    """A random path below a directory, there or not yet."""
    path = root
    for _ in range(rng.randrange(1, 6)):
        try:
            with os.scandir(path) as entries:
                names = [e.name for _, e in zip(range(most), entries)]
        except OSError:
            break
        names.sort()
        path = os.path.join(path, rng.choice(names) if names and rng.random() < 0.8 else rng.choice(NAMES))
        if rng.random() < 0.2 or os.path.islink(path):
            break
    return path


def known(ending=""):
    """A random path that mxcert itself has made."""
    return os.path.join(STATE, rng.choice([p for p in KNOWN if p.endswith(ending)]))


def target():
    r = rng.random()
    if r < 0.5: return known()
    r = rng.random()
    return some(STATE if r < 0.7 else KEYS if r < 0.85 else rng.choice(OTHERS))


def clear(path):
    """Makes room at a path, mostly by a rename, so that much of the state lives on under other names."""
    if rng.random() < 0.5:
        os.rename(path, some(STATE))
    elif os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    else:
        os.unlink(path)


def garbage():
    r = rng.randrange(9)
    if r == 0: return os.urandom(rng.randrange(1, 5000))
    if r == 1: return b"{" * rng.randrange(1, 300000)
    if r == 2: return b'{"version":1,"events":[' + b"{}," * rng.randrange(1, 300000) + b"{}]}"
    if r == 3: return json.dumps({"version": rng.choice([1, 2, -1, 1e99]), "keys": {"ec256": rng.choice([None, {}, [], "x", {"current": rng.choice(EVIL)}])}, "events": [{"message": rng.choice(EVIL), "at": "2026-01-01T00:00:00Z"}] * rng.randrange(50)}).encode("utf-8", "surrogatepass")
    if r == 4: return b"-----BEGIN CERTIFICATE-----\n" + b"MIIB" * rng.randrange(1, 200000) + b"\n-----END CERTIFICATE-----\n"
    if r == 5: return rng.choice(EVIL).encode("utf-8", "surrogatepass") * rng.randrange(1, 50)
    if r == 6: return json.dumps({"pid": rng.choice([1, os.getpid(), -1, 0, 2**40]), "version": rng.choice(EVIL), "socket": rng.choice([some(STATE), "/run/mxcert-helpers/install.sock", "/run/dbus/system_bus_socket", "\x00abstract", rng.choice(EVIL)]), "started": "2026-01-01T00:00:00Z", "config_loaded": "2026-01-01T00:00:00Z", "config_error": rng.choice(["", rng.choice(EVIL)])}).encode("utf-8", "surrogatepass")
    if r == 7: return b""
    return b"x" * rng.randrange(1, 1 << 20)


def mutate(value, depth=0):
    """The same JSON with something in it exchanged."""
    if depth > 6 or rng.random() < 0.15:
        return rng.choice([None, 0, -1, 1e300, 2**63, True, [], {}, [None], {"x": None}, rng.choice(EVIL)])
    if isinstance(value, dict) and value:
        value = dict(value)
        key = rng.choice(sorted(value))
        value[key] = mutate(value[key], depth + 1)
    elif isinstance(value, list) and value:
        value = list(value)
        i = rng.randrange(len(value))
        value[i] = mutate(value[i], depth + 1)
    return value


def put(path, content):
    flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | (os.O_TRUNC if rng.random() < 0.8 else 0)
    fd = os.open(path, flags, 0o600)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def act_link(): p = target(); (rng.random() < 0.8 and os.path.lexists(p) and clear(p)); os.symlink(rng.choice(PRECIOUS), p)
def act_link_inside(): p = target(); (os.path.lexists(p) and clear(p)); os.symlink(some(STATE), p)
def act_hardlink(): os.link(rng.choice([target(), rng.choice(PRECIOUS)]), target())
def act_rename(): os.rename(target(), target())
def act_exchange():
    if libc.renameat2(-100, target().encode("utf-8", "surrogatepass"), -100, target().encode("utf-8", "surrogatepass"), 2): raise OSError(ctypes.get_errno(), "")
def act_exchange_link():
    p = target()
    aside = p + ".x"
    os.symlink(rng.choice(PRECIOUS), aside)
    for _ in range(rng.randrange(1, 30)):
        libc.renameat2(-100, p.encode("utf-8", "surrogatepass"), -100, aside.encode("utf-8", "surrogatepass"), 2)
    if rng.random() < 0.7 and os.path.islink(p): libc.renameat2(-100, p.encode("utf-8", "surrogatepass"), -100, aside.encode("utf-8", "surrogatepass"), 2)
    if os.path.islink(aside): os.unlink(aside)
def act_fifo(): p = target(); (os.path.lexists(p) and clear(p)); os.mkfifo(p)
def act_mkdir(): p = target(); (os.path.lexists(p) and clear(p)); os.mkdir(p)
def act_garbage(): put(target(), garbage())
def act_mutate():
    p = known(".json")
    text = open(os.open(p, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb").read(1 << 20)
    put(p, json.dumps(mutate(json.loads(text))).encode("utf-8", "surrogatepass"))
def act_sparse():
    p = target(); put(p, b"x"); os.truncate(p, rng.choice([1 << 20, (1 << 20) + 1, 1 << 30, 1 << 40]))
def act_growing():
    def grow(path):
        try:
            for _ in range(20): open(path, "ab").write(b"x" * 20000); time.sleep(0.02)
            os.unlink(path)
        except OSError: pass
    p = target()
    if not os.path.lexists(p) or os.path.isfile(p) and not os.path.islink(p): threading.Thread(target=grow, args=(p,), daemon=True).start()
def act_chmod(): p = target(); (not os.path.islink(p)) and os.chmod(p, rng.choice([0, 0o700, 0o600, 0o777, 0o4755, 0o2777, 0o500, 0o200]))
def act_top(): os.chmod(rng.choice([STATE, STATE + "/lineages", KEYS]), rng.choice([0o700, 0o700, 0o2750, 0o777, 0o500, 0]))
def act_mend(): # so that the commands get further than to the first fault
    for d in (STATE, STATE + "/lineages", STATE + "/lineages/mx", KEYS):
        if os.path.islink(d): os.unlink(d)
        os.makedirs(d, exist_ok=True); os.chmod(d, 0o2750 if d == KEYS else 0o700)
    for d in ("lineages", "accounts", "orders", "journal"):
        p = os.path.join(STATE, d)
        if os.path.islink(p) or os.path.lexists(p) and not os.path.isdir(p): os.unlink(p)
        os.makedirs(p, exist_ok=True)
def act_restore():
    act_mend()
    subprocess.run("chmod -R u+rwX . ../mxcert-keys; find . ../mxcert-keys -mindepth 1 ! -name 'control.sock' ! -name 'daemon.*' -delete; mkdir -p ../mxcert-keys/sub; cp -a %s/. ." % GOOD, shell=True, cwd=STATE, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
def act_remove(): p = target(); os.unlink(p) if not os.path.isdir(p) or os.path.islink(p) else os.rmdir(p)
def act_flock():
    fd = os.open(rng.choice([STATE, STATE + "/lineages", STATE + "/daemon.lock", STATE + "/lock", STATE + "/lineages/mx/lock", some(STATE)]), os.O_RDONLY | os.O_NONBLOCK)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holds.append(fd)
    if len(holds) > 3: os.close(holds.pop(0))
def act_farm():
    d = rng.choice([STATE + "/journal", STATE + "/lineages/mx", STATE + "/lineages/own"])
    first = os.path.join(d, "mx.20250101T000000000Z-0000000%d.json" % rng.randrange(10))
    put(first, garbage())
    for i in range(40): os.link(first, os.path.join(d, "mx.20250101T000000000Z-%08x.json" % rng.randrange(1 << 32)))


def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(0.3)
    s.connect(path)
    return s


ORDERS = [{"verb": v, "name": n} for v in ("check", "plan", "apply", "revert", "touch", "../x", "") for n in ("mx", "own", "sub", "../mx", "$(id)", "")]
ORDERS += [{"event": e, "name": n, "changed": True, "domains": ["../../etc/cron.d/x"], "fullchain": "/etc/shadow"} for e in ("pre", "deploy", "post", "fail", "../x") for n in ("mx", "../mx")]
ORDERS += [{"names": n, "force": True, "rollback": True, "fingerprint": "x"} for n in ([], ["mx"], ["../x"], ["\x1b]0;x\x07"])]
def a_line():
    order = json.dumps(mutate(rng.choice(ORDERS)) if rng.random() < 0.5 else rng.choice(ORDERS)).encode("utf-8", "surrogatepass")
    return rng.choice([order + b"\n", order, order[: len(order) // 2], order + b"\n" + order + b"\n", garbage(), garbage() + b"\n", b"x" * 100000, b"\n" * 100, b'{"bundles":[' + b"{}," * 200000])
def act_order():
    s = connect(rng.choice(SOCKETS))
    holds.append(os.dup(s.fileno())) if rng.random() < 0.1 else None
    if len(holds) > 3: os.close(holds.pop(0))
    s.sendall(a_line())
    if rng.random() < 0.5:
        answer = s.recv(65536)
        if answer and rng.random() < 0.1: keep("answer", answer)
    s.close()
def act_flood():
    path, opened = rng.choice(SOCKETS), []
    try:
        for _ in range(rng.randrange(10, 90)): opened.append(connect(path))
    finally:
        time.sleep(0.2)
        for s in opened: s.close()
def act_notify():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.sendto(rng.choice([b"READY=1", b"STOPPING=1", b"MAINPID=1", b"WATCHDOG=trigger", b"RELOADING=1", b"STATUS=\x1b]0;x\x07", b"FDSTORE=1"]), "/run/systemd/notify")


def answer(c):
    evil = json.dumps(rng.choice(EVIL)).encode("utf-8", "surrogatepass")
    progress = b'{"certificate":' + evil + b',"stage":' + evil + b',"message":' + evil + b"}\n"
    report = b'{"report":{"certificates":[{"name":' + evil + b',"names":[' + evil + b'],"stage":' + evil + b',"warnings":[' + evil + b'],"error":{"message":' + evil + b',"hint":' + evil + b'}}]}}\n'
    what = rng.randrange(9)
    try:
        c.settimeout(2)
        if what < 8: c.recv(65536)
        if what == 0: c.sendall(progress * 3 + report)
        elif what == 1: c.sendall(b'{"refuse":' + evil + b"}\n")
        elif what == 2: c.sendall(report[: len(report) // 2])
        elif what == 3: c.sendall(garbage())
        elif what == 4: c.sendall(b'{"report":{"certificates":[' + b"{}," * 1500000 + b"{}]}}\n")
        elif what == 5:
            end = time.time() + rng.choice([1, 1, 1, 25])
            while time.time() < end: c.sendall(progress); time.sleep(0.001)
        elif what == 6: time.sleep(rng.choice([0.1, 1, 1, 25]))
        elif what == 7: c.sendall(b"x" * (20 << 20))
        c.close()
    except OSError: pass


def act_false_daemon():
    path = rng.choice([STATE + "/control.sock", "/run/mxcert/control.sock"])
    s = socket.socket(socket.AF_UNIX)
    if os.path.lexists(path): os.rename(path, some(STATE))
    s.bind(path)
    s.listen(64)
    s.settimeout(rng.choice([1, 3, 5]))
    put(STATE + "/daemon.json", json.dumps({"pid": os.getpid(), "version": "x", "socket": path, "started": "2026-11-29T00:00:00Z", "config_loaded": "2026-11-29T00:00:00Z"}).encode())
    def serve():
        try:
            while True: threading.Thread(target=answer, args=(s.accept()[0],), daemon=True).start()
        except OSError: s.close()
    threading.Thread(target=serve, daemon=True).start()


MANAGER = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager "
CALLS = ["StartTransientUnit ssa(sv)a(sa(sv)) %s fail 1 ExecStart a(sasb) 1 /bin/touch 2 /bin/touch /root/pwned false 0", "StartUnit ss %s replace", "RestartUnit ss %s replace", "StopUnit ss %s replace",
         "KillUnit ssi %s all 9", "SetUnitProperties sba(sv) %s true 1 CPUWeight t 1", "EnableUnitFiles asbb 1 %s true true", "MaskUnitFiles asbb 1 %s true true", "ReloadOrRestartUnit ss %s replace", "Reload", "Reexecute"]
def act_bus():
    unit = rng.choice(["mxcert-install@x.service", "mxcert-hook@0123456789abcdef.service", "exim4.service", "mxcert.service", "named.service", "mxcert-install.socket", "system-mxcert.slice", "rescue.target"])
    call = rng.choice(CALLS)
    call = call % unit if "%s" in call else call
    if subprocess.run(["busctl", "--timeout=2", "call"] + (MANAGER + call).split(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0: won("D-Bus: " + call)
def act_reload(): # the one call that mxcert may make
    subprocess.run(["busctl", "--timeout=2", "call"] + (MANAGER + "ReloadUnit ss exim4.service replace").split(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class vec(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


def won(what):
    with lock: (what not in wins) and wins.append(what)
def keep(name, content):
    with lock: done["loot"] = done.get("loot", 0) + 1; number = done["loot"]
    if number < 2000: open("%s/%s-%d" % (LOOT, name, number), "wb").write(content[: 1 << 20])


def peers():
    """Processes of this user's that are not its own doing: root's commands and what they start, the daemon."""
    mine = os.getpgid(0)
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.getpgid(int(entry)) != mine:
                status = open("/proc/%s/status" % entry).read()
                if "\nUid:\t%d\t" % os.getuid() in status and "State:\tZ" not in status: yield int(entry), open("/proc/%s/comm" % entry).read().strip()
        except OSError: pass


def spy():
    """Looks at every such process again and again. Those of mxcert must be closed; of the others it keeps what they show."""
    while True:
        for pid, name in peers():
            with lock: done["spied " + name] = done.get("spied " + name, 0) + 1
            got = []
            for file in ("environ", "maps", "auxv"):
                try:
                    text = open("/proc/%d/%s" % (pid, file), "rb").read(1 << 16)
                    if text: got.append(file); keep(file, text)
                except OSError: pass
            try:
                for fd in os.listdir("/proc/%d/fd" % pid): got.append("fd " + os.readlink("/proc/%d/fd/%s" % (pid, fd)))
            except OSError: pass
            for base in (0x400000, 0x7ffffffde000):
                buffer = ctypes.create_string_buffer(4096)
                if libc.process_vm_readv(pid, ctypes.byref(vec(ctypes.addressof(buffer), 4096)), 1, ctypes.byref(vec(base, 4096)), 1, 0) > 0: got.append("memory"); keep("memory", buffer.raw)
            if libc.ptrace(0x4206, pid, 0, 0) == 0: got.append("ptrace"); libc.ptrace(17, pid, 0, 0) # PTRACE_SEIZE
            if got and name == "mxcert" and os.path.exists("/proc/%d" % pid) and open("/proc/%d/comm" % pid).read() == "mxcert\n": won("process of mxcert: " + " ".join(got)[:200])
        time.sleep(0.02)
def act_signal():
    for pid, name in peers():
        if name == "mxcert" and rng.random() < 0.3: os.kill(pid, rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGHUP, signal.SIGUSR1, signal.SIGCONT, signal.SIGWINCH]))


WEIGHTS = {act_link: 14, act_link_inside: 4, act_hardlink: 5, act_rename: 10, act_exchange: 10, act_exchange_link: 12, act_fifo: 6, act_mkdir: 6, act_garbage: 10, act_mutate: 16, act_sparse: 4,
           act_growing: 1, act_chmod: 4, act_top: 0.3, act_mend: 6, act_remove: 8, act_flock: 2, act_farm: 0.5, act_order: 8, act_flood: 0.3, act_notify: 1, act_false_daemon: 3, act_bus: 0.8,
           act_reload: 0.1, act_signal: 0.1, act_restore: 1}
os.setpgid(0, 0)
os.makedirs(LOOT, exist_ok=True)
OTHERS = places()
subprocess.run("rm -rf %s; cp -a . %s; rm -f %s/control.sock %s/daemon.*" % (GOOD, GOOD, GOOD, GOOD), shell=True, cwd=STATE, check=True)
KNOWN = sorted(os.path.relpath(os.path.join(top, n), GOOD) for top, names, files in os.walk(GOOD) for n in names + files)
SOCKETS = ["/run/mxcert-helpers/install.sock", "/run/mxcert-helpers/hook.sock", "/run/mxcert/control.sock", STATE + "/control.sock"]
threading.Thread(target=spy, daemon=True).start()
began = time.time()
for n in range(actions):
    if time.time() - began > 150: sys.exit("this takes too long: %d actions" % n)
    act = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    name = act.__name__[4:]
    try:
        act()
        with lock: done[name] = done.get(name, 0) + 1
    except Exception: # it was refused, or there was nothing to do
        with lock: done[name + " failed"] = done.get(name + " failed", 0) + 1
    if n % 50 == 0: # for root's commands, too; and the disk must not fill
        time.sleep(0.05)
        s = os.statvfs(STATE)
        if s.f_bavail * s.f_frsize < 500 << 20: subprocess.run(["find", STATE, KEYS, "/tmp", "/var/tmp", "-user", "mxcert", "-size", "+100k", "-delete"], stderr=subprocess.DEVNULL)
print(json.dumps({"seed": seed, "actions": actions, "seconds": round(time.time() - began, 1), "places": OTHERS, "wins": wins, "done": dict(sorted(done.items()))}))
