package publish_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
	"mxcert/deploy/dane/publish"
	"mxcert/deploy/dane/publish/publishtest"
)

// hookDirectory makes a directory with hooks: name → text of the script.
func hookDirectory(t *testing.T, hooks map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range hooks {
		path := write(t, filepath.Join(dir, name), "#!/bin/sh\n"+text+"\n")
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func hooks(t *testing.T, dir string, timeout time.Duration) dane.Publisher {
	t.Helper()
	return open(t, publish.Settings{Hook: &publish.Hook{Directory: dir, Timeout: timeout}})
}

// nsupdateHook is a whole hook for a server that takes dynamic updates. It reads JSON with sed, because the values have no quotes in them.
const nsupdateHook = `
server=127.0.0.1 port=%s key=%s
request=$(cat)
member() { printf '%%s' "$request" | sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p'; }
action=$(member action) zone=$(member zone) name=$(member name)
ttl=$(printf '%%s' "$request" | sed -n 's/.*"ttl":\([0-9]*\).*/\1/p')
records() { printf '%%s' "$request" | sed -n 's/.*"records":\[\([^]]*\)\].*/\1/p' | tr ',' '\n' | tr -d '"'; }
[ "$zone" = example.test. ] || exit 3
ask() { dig +tcp +noall +answer +onesoa @"$server" -p "$port" -k "$key" "$name" "$1"; }
if ask CNAME | grep -q CNAME; then
	echo '{"error":"there is a CNAME at the name"}'
	exit 0
fi
case $action in
list)
	ask TLSA | awk '$4 == "TLSA" { ttl = $2; data = ""; for (i = 8; i <= NF; i++) data = data $i; all = all sep "\"" $5 " " $6 " " $7 " " data "\""; sep = "," }
		END { printf "{\"records\":[%%s],\"ttl\":%%d}\n", all, ttl }'
	;;
add | remove)
	{
		echo "server $server $port"
		echo "zone $zone"
		echo "prereq nxrrset $name CNAME"
		records | while read -r value || [ -n "$value" ]; do
			if [ "$action" = add ]; then echo "update add $name $ttl TLSA $value"; else echo "update delete $name TLSA $value"; fi
		done
		echo send
	} | nsupdate -v -k "$key" >&2 || { echo '{"error":"nsupdate failed","temporary":true}'; exit 0; }
	echo '{}'
	;;
probe) echo '{}' ;;
esac`

// TestHook changes a real BIND by a hook of the size that people write. It is the second one: the first does not take the zone.
func TestHook(t *testing.T) {
	t.Parallel()
	lookProgram(t, "bind9-dnsutils", "nsupdate")
	address := startNamed(t, "update-policy { grant mxcert. subdomain example.test. ANY; };")
	key := write(t, filepath.Join(t.TempDir(), "key"), fmt.Sprintf("key %q { algorithm hmac-sha256; secret %q; };\n", keyName, secret))
	dir := hookDirectory(t, map[string]string{
		"05-old.bak": "exit 1", "10-other": "cat >/dev/null; exit 3", "20-bind": fmt.Sprintf(nsupdateHook, strings.TrimPrefix(address, "127.0.0.1:"), key), "30-never": "grep -q example.test. || exit 3; exit 1",
	})
	run(t, publishtest.Service{
		Via: func(t *testing.T, _ string) dane.Publisher { return hooks(t, dir, 0) },
		Put: putByUpdate(address), Held: heldInDNS(address),
	})
}

// TestBadHooks: each is a clear error, in bounded time.
func TestBadHooks(t *testing.T) {
	t.Parallel()
	at := dane.Place{Zone: zone, Name: "_25._tcp.mx." + zone}
	for _, tt := range []struct {
		what, text string
		says       string
		kind       string
		temporary  bool
	}{
		{"hangs", "sleep 60", "stopped after", "dns-publish", true},
		{"floods", "yes '{}' | head -c 200000", "longer than 64 KiB", "dns-publish", false},
		{"floods without an end", "yes", "stopped after", "dns-publish", true},
		{"fails", "echo 'no route' >&2; exit 1", `exit status 1; it said "no route"`, "dns-publish", true},
		{"is killed", "kill -9 $$", "signal: killed", "dns-publish", true},
		{"says nothing", ":", "it is empty", "dns-publish", false},
		{"says text", "echo done", "invalid character", "dns-publish", false},
		{"says an unknown member", `echo '{"records":[],"ok":true}'`, "unknown field", "dns-publish", false},
		{"says null", "echo null", "no JSON object", "dns-publish", false},
		{"says a list", "echo '[]'", "cannot unmarshal", "dns-publish", false},
		{"says two objects", "echo '{\"records\":[]}{}'", "text after", "dns-publish", false},
		{"says no records", "echo '{}'", `does not say "records"`, "dns-publish", false},
		{"says a bad record", `echo '{"records":["3 1 1 xyz"],"ttl":60}'`, "not in hexadecimal", "dns-publish", false},
		{"says a bad TTL", `echo '{"records":[],"ttl":-1}'`, "TTL -1", "dns-publish", false},
		{"says a huge TTL", `echo '{"records":[],"ttl":99999999999}'`, "TTL 99999999999", "dns-publish", false},
		{"says an error", `echo '{"error":"the zone is locked","temporary":true}'`, "the zone is locked", "dns-publish", true},
		{"says a fault", `printf '{"error":"no \\u001b[31mright"}'`, "no [31mright", "dns-publish", false},
		{"does not take the zone", "exit 3", "none of 1 hooks takes zone example.test.", "dns-zone", false},
		{"has no interpreter", "", "cannot be started", "dns-publish", false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			dir := hookDirectory(t, map[string]string{"hook": tt.text})
			if tt.what == "has no interpreter" {
				if err := os.WriteFile(filepath.Join(dir, "hook"), []byte("#!/nonexistent\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			p := hooks(t, dir, 10*time.Second)
			if strings.Contains(tt.says, "stopped") {
				p = hooks(t, dir, 300*time.Millisecond)
			}
			_, _, listed := p.List(t.Context(), at)
			for op, err := range map[string]error{"list": listed, "add": p.Add(t.Context(), at, []resolve.TLSA{publishtest.Value(1)}, time.Hour)} {
				e, ok := errors.AsType[*publish.Error](err)
				if !ok || !strings.Contains(e.Error(), tt.says) || e.Kind() != tt.kind || e.Temporary() != tt.temporary || e.Hint() == "" || strings.Contains(e.Error(), "\x1b") {
					t.Errorf("%s: %v; %+v", op, err, e)
				}
			}
		})
	}
}

// TestUnsafeHooks are not run, and no other one in their place.
func TestUnsafeHooks(t *testing.T) {
	t.Parallel()
	at := dane.Place{Zone: zone, Name: "_25._tcp.mx." + zone}
	good := `echo '{"records":[]}'`
	for what, spoil := range map[string]func(dir string) error{
		"a file that others can write":      func(dir string) error { return os.Chmod(filepath.Join(dir, "10-hook"), 0o777) },
		"a directory that others can write": func(dir string) error { return os.Chmod(dir, 0o777) },
		"no executable": func(dir string) error {
			return errors.Join(os.Chmod(filepath.Join(dir, "10-hook"), 0o600), os.Chmod(filepath.Join(dir, "20-hook"), 0o600))
		},
		"no hook": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "10-hook")), os.Remove(filepath.Join(dir, "20-hook")))
		},
		"no directory": os.RemoveAll,
	} {
		dir := hookDirectory(t, map[string]string{"10-hook": good, "20-hook": good})
		p := hooks(t, dir, 0)
		if _, _, err := p.List(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		_, _, err := p.List(t.Context(), at)
		if e, ok := errors.AsType[interface {
			error
			Hint() string
			Temporary() bool
		}](err); !ok || e.Hint() == "" || e.Temporary() {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := publish.New(publish.Settings{Hook: &publish.Hook{Directory: "hooks/tlsa.d"}}); err == nil {
		t.Error("a relative directory is accepted")
	}
}
