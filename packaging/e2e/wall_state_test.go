package e2e

import (
	"fmt"
	"strings"
	"time"
)

// What mxcert puts into the state directory, and what root's commands make of it.

// everyCommand is every command of root's that reads or writes the state.
var everyCommand = [][]string{
	{"status"}, {"history"}, {"doctor"}, {"verify"}, {"check"}, {"config", "show"}, {"account", "show"}, {"renew", "--dry-run", "mx"}, {"renew", "mx"},
	{"renew", "--now", "mx"}, {"deploy", "mx"}, {"rollback", "mx"}, {"deploy", "own"},
}

// rootRunsAll has root run every command.
func (w *walled) rootRunsAll() (list []ran) {
	w.t.Helper()
	var commands [][]string
	for _, args := range everyCommand {
		commands = append(commands, timed(args...))
	}
	return w.siege(map[string]any{"rounds": 1, "commands": commands})
}

// converged has root bring everything in service again.
func (w *walled) converged() {
	w.t.Helper()
	if r := w.root(-1, "renew"); r.Code != 0 {
		// An earlier state is back, and renew orders a lost certificate once a week only.
		w.root(0, "renew", "--now")
	}
	w.servedByAuthority()
}

// stateAside copies the state, and stateBack puts the copy in its place again.
func (w *walled) stateAside() {
	w.t.Helper()
	w.does(`cp -a /var/lib/mxcert /var/lib/mxcert-keys/aside`)
}

func (w *walled) stateBack() {
	w.t.Helper()
	w.does(`cd /var/lib/mxcert; rm -rf * .[!.]*; cp -a ../mxcert-keys/aside/. .; rm -rf ../mxcert-keys/aside`)
}

// A link where replaced files are kept, and a text at the target that a program of root's would obey: root would keep it in its directory.
func displacedIsALink(w *walled) {
	unchanged := w.watch(targets...)
	w.does(`cd /var/lib/mxcert/lineages/own; rm -rf displaced; ln -s /etc/logrotate.d displaced; echo '{}' >/var/lib/mxcert/daemon.json
		printf '/var/log/x {\n firstaction\n id >/root/pwned\n endscript\n}\n' | tee /var/lib/mxcert-keys/own.crt >/var/lib/mxcert-keys/own.key`)
	w.root(-1, "deploy", "own")
	w.root(-1, "renew", "--now", "own")
	w.root(-1, "rollback", "own")
	unchanged()
	w.does(`rm -f /var/lib/mxcert/lineages/own/displaced`)
	w.converged()
}

// Directories of the state that lead to root's.
func stateIsALink(w *walled) {
	unchanged := w.watch(targets...)
	for _, part := range []string{"lineages", "lineages/mx", "lineages/mx/2*", "accounts/*", "journal", "lineages/mx/record.json"} {
		w.does(`cd /var/lib/mxcert; set -- $1; part=$1; test -e "$part"; echo "$part" >/tmp/part
			mv "$part" /var/lib/mxcert/aside; ln -s `+precious+` "$part"`, part)
		w.siege(map[string]any{"rounds": 1, "commands": [][]string{timed("renew", "--now", "mx"), timed("rollback", "mx"), timed("status", "mx")}})
		w.does(`cd /var/lib/mxcert; part=$(cat /tmp/part); rm -rf "$part"; mv aside "$part"; rm -rf *.damaged* lineages/*.damaged* lineages/*/*.damaged* accounts/*/*.damaged*; rm /tmp/part`)
	}
	unchanged()
	w.converged()
}

// Files of the state that are no files, or have no end.
func stateIsNoFile(w *walled) {
	unchanged := w.watch(targets...)
	w.stateAside()
	for _, make := range []string{"ln -s /dev/zero", "ln -s " + precious + "/secret", "mkfifo"} {
		w.does(`cd /var/lib/mxcert; for f in daemon.json running.yaml lineages/mx/record.json accounts/*/account.json lineages/own/*/meta.json lineages/own/*/fullchain.pem; do
			rm -rf "$f"; ` + make + ` "$f"; done`)
		for _, args := range [][]string{{"status"}, {"history"}, {"doctor"}, {"account", "show"}, {"renew", "mx", "own"}} {
			w.root(-1, args...)
		}
	}
	unchanged()
	w.stateBack()
	w.converged()
}

// Values as large as a value may be, and as many as a directory may have: a file of a few bytes for each thing that a reader makes of it,
// and hard links, which cost the attacker nothing.
func stateIsHuge(w *walled) {
	unchanged := w.watch(targets...)
	w.stateAside()
	w.does(`exec python3 -c '
import os, glob
def fill(path, head, one, tail):
    n = ((1 << 20) - len(head) - len(tail)) // len(one) - 1
    try: os.unlink(path)
    except FileNotFoundError: pass
    open(path, "w").write(head + one * n + one.rstrip(",") + tail)
os.chdir("/var/lib/mxcert")
fill("lineages/mx/record.json", "{\"version\":1,\"keys\":{},\"events\":[", "{},", "]}")
fill("daemon.json", "{\"pid\":1,\"socket\":\"", "x", "\"}")
fill("running.yaml", "certificates: [", "{},", "]")
fill(glob.glob("accounts/*/account.json")[0], "{\"version\":1,\"x\":[", "{},", "]}")
fill("journal/first", "{\"version\":1,\"lineage\":\"mx\",\"provider\":\"rfc2136\",\"records\":[", "{},", "]}")
for i in range(3000): os.link("journal/first", "journal/mx.20260101T000000000Z-%08x.json" % i)
os.unlink("journal/first")
generations = [os.path.dirname(p) for p in glob.glob("lineages/own/**/meta.json", recursive=True)]
parent = os.path.dirname(generations[0])
fill("first", "{\"version\":1,\"names\":[", "\"\",", "]}")
for i in range(3000):
    made = "%s/20260101T000000000Z-%08x" % (parent, i)
    os.mkdir(made)
    for name in ("meta.json", "fullchain.pem", "privkey.pem", "cert.pem", "chain.pem"): os.link("first", made + "/" + name)
os.unlink("first")
'`)
	for _, r := range w.rootRunsAll() {
		figure(w.t, "%v: %.1f s, %d MiB, exit code %d", r.Argv[3:], r.Seconds, r.Memory>>20, r.Code)
	}
	unchanged()
	w.stateBack()
	w.converged()
}

// Texts that a terminal obeys, in files and from a daemon that is none.
func stateWritesToTheTerminal(w *walled) {
	unchanged := w.watch(targets...)
	w.stateAside()
	w.does(`exec python3 -c '
import json, glob, os
evil = "pwned \x1b]0;pwned\x07\x1b[2J\x9b31m\u202e\u2066\r\n\x08"
os.chdir("/var/lib/mxcert")
now = "2026-11-29T00:00:00Z"
for name in ("mx", "own"):
    path = "lineages/%s/record.json" % name
    r = json.load(open(path))
    r["events"] = [{"at": now, "event": evil, "key": evil, "serial": evil, "message": evil}]
    r["failure"] = {"stage": evil, "kind": evil, "message": evil, "hint": evil, "at": now, "count": 1}
    r["files"] = {"/var/lib/mxcert-keys/" + evil: {"mode": 416, "uid": 1, "gid": 1}}
    json.dump(r, open(path, "w"))
for path in glob.glob("lineages/own/**/meta.json", recursive=True):
    m = json.load(open(path))
    m.update(names=[evil], serial=evil, issuer=evil, directory=evil, order=evil)
    json.dump(m, open(path, "w"))
for path in glob.glob("accounts/*/account.json"):
    a = json.load(open(path))
    for k in a:
        if isinstance(a[k], str) and k != "key" and k != "directory": a[k] = evil
    json.dump(a, open(path, "w"))
json.dump({"pid": 1, "version": evil, "socket": "/nonexistent" + evil, "started": now, "config_loaded": now, "config_error": evil}, open("daemon.json", "w"))
'`)
	said := ""
	for _, r := range w.rootRunsAll() {
		said += r.Output
	}
	if !strings.Contains(said, "pwned") {
		w.t.Error("nothing of the text is shown, so this shows nothing")
	}
	w.stateBack()
	said = ""
	for _, answer := range []string{
		`b"{\"certificate\":E,\"stage\":E,\"message\":E}\n{\"report\":{\"certificates\":[{\"name\":E,\"names\":[E],\"stage\":E,\"files\":[E],\"warnings\":[E],\"endpoints\":[{\"address\":E,\"error\":E,\"hint\":E}],\"keys\":[{\"key\":E,\"serial\":E,\"issuer\":E}],\"error\":{\"stage\":E,\"kind\":E,\"message\":E,\"hint\":E}}]}}\n"`,
		`b"{\"refuse\":E}\n"`, `b"{E\x1b]0;pwned\x07"`,
	} {
		stop := w.falseDaemon(`import json; E=json.dumps("pwned \x1b]0;pwned\x07\x1b[2J\u202e\r\n").encode(); c.sendall(` + strings.ReplaceAll(answer, "E", `"+E+b"`) + `)`)
		for _, args := range [][]string{{"status"}, {"renew", "mx"}, {"rollback", "mx"}, {"doctor"}} {
			said += w.root(-1, args...).Output
		}
		stop()
	}
	if !strings.Contains(said, "pwned") {
		w.t.Error("no command asked the false daemon")
	}
	// A false daemon whose answer is as large as an answer may be, or has no end.
	for _, answer := range []string{
		`c.sendall(b"{\"report\":{\"certificates\":[" + b"{},"*5000000 + b"{}]}}\n")`,
		"while True: c.sendall(b\"{\\\"certificate\\\":\\\"mx\\\"}\\n\")", "while True: c.sendall(b\"x\"*65536)", "time.sleep(100)",
	} {
		stop := w.falseDaemon(answer)
		for _, args := range [][]string{{"status"}, {"deploy", "mx"}} {
			r := w.root(-1, append(args, "--timeout", "3s")...)
			if r.Seconds > 6 {
				w.t.Errorf("%v took %.1f s", args, r.Seconds)
			}
			figure(w.t, "%.40s %v: %.1f s, %d MiB, exit code %d", answer, args, r.Seconds, r.Memory>>20, r.Code)
		}
		stop()
	}
	unchanged()
	w.converged()
}

// falseDaemon listens as mxcert in the place of the daemon, and does the same for each connection.
func (w *walled) falseDaemon(answer string) (stop func()) {
	w.t.Helper()
	must(w.t, w.Host, "systemd-run", "-q", "--unit=false-daemon", "--uid=mxcert", "python3", "-c", fmt.Sprintf(`
import socket, json, os, threading, time
path = "/var/lib/mxcert/control.sock"
try: os.unlink(path)
except FileNotFoundError: pass
s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen(64)
now = "2026-11-29T00:00:00Z"
json.dump({"pid": os.getpid(), "version": "x", "socket": path, "started": now, "config_loaded": now}, open("/var/lib/mxcert/daemon.json", "w"))
import fcntl; lock = open("/var/lib/mxcert/daemon.lock", "a"); fcntl.flock(lock, fcntl.LOCK_EX)
open("/tmp/listens", "w")
def serve(c):
    try:
        c.recv(65536)
        %s
        c.close()
    except OSError: pass
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
`, answer))
	within(w.t, 10*time.Second, "the false daemon listens", func() bool {
		r, err := w.Run(w.t.Context(), "test", "-e", "/tmp/listens")
		return err == nil && r.Code == 0
	})
	return func() {
		must(w.t, w.Host, "systemctl", "stop", "false-daemon.service")
		must(w.t, w.Host, "rm", "-f", "/tmp/listens", "/var/lib/mxcert/control.sock", "/var/lib/mxcert/daemon.json")
	}
}
