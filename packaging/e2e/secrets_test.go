package e2e

import (
	"context"
	"slices"
	"strings"
)

// Every story ends with a search for its secrets wherever one could slip out: see secretsKept.

// knownSecrets prints a line of every private key that the host's mxcert holds: accounts and all generations.
const knownSecrets = `import glob, json
for name in glob.glob("/var/lib/mxcert/accounts/*/account.json"):
    try: print(json.load(open(name))["key"].split("\n")[1])
    except (ValueError, KeyError): pass # a story has damaged it
for name in glob.glob("/var/lib/mxcert/lineages/*/*/privkey.pem"):
    print(open(name).read().split("\n")[1])`

// search lists where a line of /root/pattern is found: the journal, command lines and environments of processes, files.
// Core dumps are listed whatever is in them.
const search = `journalctl --no-pager -o verbose | grep -qF -f /root/pattern && echo journal
for p in /proc/[0-9]*; do
	tr '\0' ' ' <$p/cmdline 2>/dev/null | grep -qF -f /root/pattern && echo $p/cmdline
	tr '\0' ' ' <$p/environ 2>/dev/null | grep -qF -f /root/pattern && echo $p/environ
done
grep -rlF --exclude=pattern -f /root/pattern /etc /run /root /tmp /var 2>/dev/null
find / -xdev \( -name core -o -name 'core.[0-9]*' \) -type f -size +0 2>/dev/null
true`

// secretsKept looks for the TSIG secret and all private keys in what mxcert printed, the journal, command lines,
// environments, core dumps and every file that is not meant to have them.
func (s *story) secretsKept() {
	s.t.Helper()
	run := func(script string, argv ...string) string {
		r, err := s.RunInput(context.Background(), script, argv...)
		if err != nil || r.Code != 0 {
			s.t.Errorf("the search for secrets fails: %v %s", err, r.Stderr)
		}
		return r.Stdout
	}
	tsig := []string{"/etc/mxcert/credentials/", "/etc/bind/", "/var/cache/bind", "/var/lib/bind", "/etc/knot/", "/root/tsig", "/run/credentials/mxcert.service/"}
	keys := []string{"/etc/exim4/", "/etc/postfix/", "/etc/dovecot/", "/var/lib/mxcert/", "/var/lib/mxcert-install/", "/var/lib/mxcert-keys/", "/etc/ssl/mail/",
		"/run/dovecot/dovecot.conf.binary"} // Dovecot 2.4 keeps there what it has read
	for _, group := range []struct{ secrets, places []string }{
		{[]string{s.TSIGSecret}, tsig},
		{strings.Fields(run(knownSecrets, "python3", "-")), keys},
	} {
		for _, secret := range group.secrets {
			if len(secret) < 20 {
				s.t.Errorf("%q is no secret", secret)
			}
			if at := strings.Index(s.said.String(), secret); at >= 0 {
				s.t.Errorf("mxcert printed a secret: %s", s.said.String()[max(0, at-300):at])
			}
		}
		if len(group.secrets) == 0 {
			continue
		}
		if err := s.Put("/root/pattern", []byte(strings.Join(group.secrets, "\n")+"\n"), 0o600); err != nil {
			s.t.Error(err)
			continue
		}
		for _, found := range strings.Fields(run(search, "sh", "-s")) {
			if !slices.ContainsFunc(group.places, func(place string) bool { return strings.HasPrefix(found, place) }) {
				s.t.Errorf("a secret is in %s", found)
			}
		}
	}
}

// noSecrets has mxcert print all that it prints, and looks at once, while the service runs.
func (s *story) noSecrets() {
	s.t.Helper()
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"history", "--json"}, {"config", "show"}, {"renew", "--dry-run", "--json"}, {"check", "--json"}} {
		s.mxcert(args...)
	}
	s.secretsKept()
	if got := strings.TrimSpace(must(s.t, s.Host, "sh", "-c", `awk '/Max core/ {print $5}' /proc/$(systemctl show -P MainPID mxcert.service)/limits`)); got != "0" {
		s.t.Errorf("core dumps of up to %s bytes are allowed", got)
	}
}
