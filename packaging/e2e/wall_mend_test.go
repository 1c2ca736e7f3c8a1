package e2e

import (
	"strconv"
	"strings"
	"time"
)

// Damage to the state and to the files beside those of mxcert, which it has to get over.

// current is the shell's name for the newest generation of mx.
const current = `g=$(dirname $(ls -t $(find /var/lib/mxcert/lineages/mx -name meta.json) | head -n1)); `

// A part of the newest generation is lost: what is served stays, and a new certificate takes its place.
func generationIsLost(w *walled) {
	w.root(0, "renew", "--now", "mx")
	before := w.servedByAuthority()
	w.does(current + `rm "$g/fullchain.pem"`)
	w.root(0, "renew", "mx")
	if now := w.servedByAuthority(); now == before {
		w.t.Error("the lost certificate is still in service, and mxcert has no description of it")
	}
	w.root(0, "status", "mx")
}

// A generation's description is empty: it is made again, and nothing is ordered.
func metaIsEmpty(w *walled) {
	before, orders := w.servedByAuthority(), w.orders()
	w.does(current + `: >"$g/meta.json"`)
	w.root(0, "renew", "mx")
	w.root(0, "status", "mx")
	if now := w.servedByAuthority(); now != before || w.orders() != orders {
		w.t.Errorf("%s is served after %d orders, before %s after %d", now, w.orders(), before, orders)
	}
}

// What should be notes and locks are directories and links to nothing: neither the daemon nor a pass is kept from its work.
func locksAreNoFiles(w *walled) {
	unchanged := w.watch(targets...)
	for _, make := range []string{"mkdir", "ln -s /nonexistent", "ln -s " + precious + "/lock", "mkfifo"} {
		w.does(`cd /var/lib/mxcert; for f in running.yaml daemon.json daemon.lock lineages/mx/lock lineages/own/lock; do rm -rf "$f"; ` + make + ` "$f"; done`)
		w.root(0, "renew", "mx", "own")
		w.root(0, "status", "mx", "own")
		if strings.HasPrefix(make, "ln -s /srv") || make == "mkfifo" {
			continue
		}
		w.does(`cd /var/lib/mxcert; for f in running.yaml daemon.json daemon.lock lineages/mx/lock; do rm -rf "$f"; ` + make + ` "$f"; done`)
		must(w.t, w.Host, "systemctl", "start", "mxcert.service")
		w.asleep()
		must(w.t, w.Host, "systemctl", "stop", "mxcert.service")
	}
	unchanged()
	w.does(`cd /var/lib/mxcert; rm -rf *.damaged* lineages/*/*.damaged*`)
	w.converged()
}

// The service's user deploys to a directory with the setgid bit, which stays as it is.
func setgidDirectory(w *walled) {
	must(w.t, w.Host, "systemctl", "start", "mxcert.service")
	w.root(0, "renew", "--now", "root")
	must(w.t, w.Host, "systemctl", "stop", "mxcert.service")
	got := must(w.t, w.Host, "stat", "-c", "%U:%G %a", "/etc/exim4/setgid", "/etc/exim4/setgid/x.key")
	if want := "root:Debian-exim 2750\nroot:Debian-exim 640\n"; got != want {
		w.t.Errorf("the directory and the key: %q, want %q", got, want)
	}
}

// Keys that the operator has put at the places are kept: those from before the first deployment, and a later one.
func keysOfTheOperator(w *walled) {
	kept := func(file string) bool {
		r, err := w.Run(w.t.Context(), "sh", "-c", `find /var/lib/mxcert-install -type f -exec cmp -s {} "$1" \; -print | grep .`, "sh", file)
		w.check(err)
		return r.Code == 0
	}
	for _, file := range []string{"/root/operator/a", "/root/operator/b"} {
		if !kept(file) {
			w.t.Errorf("%s is lost", file)
		}
	}
	must(w.t, w.Host, "sh", "-ec", `openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out /root/operator/c; cat /root/operator/c >`+keyFile)
	if kept("/root/operator/c") {
		w.t.Error("the search finds what nothing has kept")
	}
	w.root(0, "deploy", "mx")
	if !kept("/root/operator/c") {
		w.t.Error("the later key is lost")
	}
	if r := w.asMxcert(`ls /var/lib/mxcert-install`); r.Code == 0 {
		w.t.Error("mxcert can read what the helper has kept")
	}
}

// Somebody changes other files beside the certificate, again and again: the daemon does not look each time.
func busyDirectory(w *walled) {
	must(w.t, w.Host, "systemctl", "start", "mxcert.service")
	defer must(w.t, w.Host, "systemctl", "stop", "mxcert.service")
	w.asleep()
	used := func() time.Duration {
		stat := strings.Fields(must(w.t, w.Host, "sh", "-c", `cat /proc/$(systemctl show -P MainPID mxcert.service)/stat`)) // proc_pid_stat(5): utime, stime
		user, err := strconv.Atoi(stat[13])
		w.check(err)
		system, err := strconv.Atoi(stat[14])
		w.check(err)
		return time.Duration(user+system) * 10 * time.Millisecond
	}
	before := used()
	changes := strings.TrimSpace(must(w.t, w.Host, "python3", "-c", `
import os, time
end, n = time.time() + 5, 0
while time.time() < end:
    open("/etc/exim4/noise", "w").close(); os.rename("/etc/exim4/noise", "/etc/exim4/noise2"); os.unlink("/etc/exim4/noise2"); n += 3
print(n)`))
	took := used() - before
	figure(w.t, "%s changes in 5 s: the daemon used %d ms", changes, took.Milliseconds())
	if took > time.Second {
		w.t.Errorf("%v of the processor in 5 s", took)
	}
}
