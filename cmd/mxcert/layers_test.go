package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// permitted holds the arrows between the rooms: what a package may import of this module beside the leaves. Arrows run one way:
// main → cli → rooms of cmd → rooms. Changing the list is a change of the architecture, and its commit says why.
var permitted = map[string][]string{
	"mxcert/cmd/mxcert": {"cli"},
	"adopt":             {"mxcert/acme/issued", "mxcert/acme/schedule", "mxcert/acme/state"},
	"cli":               {"adopt", "alarm", "daemon", "doctor", "engine", "helper", "logbook", "page", "pass", "privilege", "report", "reported", "revoke", "setup", "tell", "wanted", "wire", "mxcert/acme", "mxcert/acme/account", "mxcert/acme/ct", "mxcert/acme/ct/sct", "mxcert/acme/dnsprovider", "mxcert/acme/fleet", "mxcert/acme/fleet/seal", "mxcert/acme/issued", "mxcert/acme/resolve", "mxcert/acme/state", "mxcert/acme/state/disk", "mxcert/configs", "mxcert/deploy/dane", "mxcert/deploy/mtasts", "mxcert/deploy/mx", "mxcert/deploy/served", "mxcert/deploy/starttls", "mxcert/deploy/survey", "mxcert/deploy/tlsrpt", "mxcert/deploy/verdict", "mxcert/hooks/journal", "mxcert/hooks/unit"},
	"daemon":            {"engine", "helper", "logbook", "pass", "report", "reported", "tell", "wanted", "wire", "mxcert/acme", "mxcert/acme/ct", "mxcert/acme/fleet", "mxcert/acme/issued", "mxcert/acme/schedule", "mxcert/acme/state", "mxcert/acme/state/disk", "mxcert/configs", "mxcert/deploy/dane", "mxcert/deploy/mtasts", "mxcert/deploy/mx", "mxcert/deploy/survey", "mxcert/deploy/tlsrpt", "mxcert/deploy/verdict", "mxcert/hooks/journal", "mxcert/hooks/notify", "mxcert/hooks/sdnotify", "mxcert/hooks/watch"}, // the look as a sender: what deployments came to
	"doctor":            {"engine", "helper", "pass", "report", "reported", "wanted", "mxcert/acme", "mxcert/acme/account", "mxcert/acme/ct", "mxcert/acme/dnsprovider", "mxcert/acme/fleet", "mxcert/acme/issued", "mxcert/acme/preflight", "mxcert/acme/resolve", "mxcert/acme/state", "mxcert/deploy/dane", "mxcert/deploy/discover", "mxcert/deploy/mtasts", "mxcert/deploy/mx", "mxcert/deploy/ocsp", "mxcert/deploy/served", "mxcert/deploy/starttls", "mxcert/deploy/survey", "mxcert/deploy/tlsrpt", "mxcert/deploy/verdict", "mxcert/hooks/script", "mxcert/hooks/unit"},
	"engine":            {"wanted", "mxcert/acme/fleet", "mxcert/acme/state", "mxcert/acme/state/etcd"}, // the only room with the client of etcd
	"helper":            {"report", "wanted", "wire", "mxcert/acme/state", "mxcert/acme/state/disk", "mxcert/configs", "mxcert/deploy", "mxcert/deploy/discover", "mxcert/deploy/ocsp", "mxcert/hooks/notify", "mxcert/hooks/script", "mxcert/hooks/unit"},
	"logbook":           {"report", "mxcert/hooks/journal"},
	"pass":              {"helper", "report", "wanted", "mxcert/acme", "mxcert/acme/ari", "mxcert/acme/dnsprovider", "mxcert/acme/fleet", "mxcert/acme/issued", "mxcert/acme/preflight", "mxcert/acme/resolve", "mxcert/acme/schedule", "mxcert/acme/state", "mxcert/deploy", "mxcert/deploy/dane", "mxcert/deploy/mx", "mxcert/deploy/ocsp", "mxcert/deploy/served", "mxcert/hooks/unit", "mxcert/hooks/watch"},
	"alarm":             {"report", "tell", "wanted", "mxcert/acme/state", "mxcert/hooks/journal", "mxcert/hooks/notify"},
	"page":              {"report", "tell", "wanted", "mxcert/acme/fleet", "mxcert/acme/state"},
	"privilege":         {},
	"report":            {"mxcert/acme/resolve", "mxcert/deploy", "mxcert/deploy/dane"},
	"reported":          {"report", "wanted", "mxcert/acme/state", "mxcert/deploy/mx", "mxcert/deploy/tlsrpt"}, // what was served is in the state
	"revoke":            {"pass", "report", "wanted", "mxcert/acme", "mxcert/acme/issued", "mxcert/acme/state", "mxcert/deploy/served"},
	"setup":             {"report", "wanted", "mxcert/acme/dnsprovider", "mxcert/acme/resolve", "mxcert/acme/session", "mxcert/acme/transport", "mxcert/configs", "mxcert/deploy", "mxcert/deploy/discover", "mxcert/deploy/mx", "mxcert/deploy/starttls", "mxcert/hooks/unit"},
	"tell":              {"report", "wanted", "mxcert/acme/fleet", "mxcert/acme/state", "mxcert/hooks/metrics"},
	"wanted":            {"mxcert/acme", "mxcert/acme/account", "mxcert/acme/ct", "mxcert/acme/ct/sct", "mxcert/acme/dnsprovider", "mxcert/acme/fleet", "mxcert/acme/fleet/seal", "mxcert/acme/resolve", "mxcert/acme/schedule", "mxcert/configs", "mxcert/deploy", "mxcert/deploy/dane", "mxcert/deploy/dane/publish", "mxcert/hooks/metrics", "mxcert/hooks/notify"},
	"wire":              {},

	// A door for packaging/man, which cannot import what is internal to cmd/mxcert.
	"mxcert/cmd/mxcert/commands": {"cli"},

	"mxcert/acme": {"mxcert/acme/account", "mxcert/acme/ari", "mxcert/acme/dnsprovider", "mxcert/acme/preflight", "mxcert/acme/resolve",
		"mxcert/acme/schedule", "mxcert/acme/session", "mxcert/acme/state", "mxcert/acme/transport"},
	"mxcert/acme/account":        {"mxcert/acme/session", "mxcert/acme/state", "mxcert/acme/transport"},
	"mxcert/acme/ari":            {"mxcert/acme/schedule", "mxcert/acme/session", "mxcert/acme/state", "mxcert/acme/transport"},
	"mxcert/acme/preflight":      {"mxcert/acme/resolve"},
	"mxcert/acme/session":        {"mxcert/acme/state", "mxcert/acme/transport"},
	"mxcert/acme/transport":      {},
	"mxcert/acme/authority":      {},
	"mxcert/acme/bundle":         {},
	"mxcert/acme/ct":             {"mxcert/acme/state", "mxcert/acme/transport"}, // how long Retry-After says
	"mxcert/acme/ct/sct":         {},
	"mxcert/acme/dnsprovider":    {"mxcert/acme/dnsupdate", "mxcert/acme/resolve"},
	"mxcert/acme/dnsupdate":      {},
	"mxcert/acme/finding":        {},
	"mxcert/acme/fleet":          {"mxcert/acme/fleet/seal", "mxcert/acme/schedule", "mxcert/acme/state"}, // the ledger that hosts share
	"mxcert/acme/fleet/seal":     {},
	"mxcert/acme/issued":         {"mxcert/acme/schedule", "mxcert/acme/state"},
	"mxcert/acme/resolve":        {},
	"mxcert/acme/schedule":       {},
	"mxcert/acme/state":          {"mxcert/acme/schedule"},
	"mxcert/acme/state/disk":     {"mxcert/acme/state"},
	"mxcert/acme/state/etcd":     {"mxcert/acme/state"},
	"mxcert/configs":             {"mxcert/acme/resolve"}, // reads resolvers with the parser that flags have
	"mxcert/deploy":              {},
	"mxcert/deploy/discover":     {"mxcert/deploy"},
	"mxcert/deploy/served":       {"mxcert/deploy/starttls"},
	"mxcert/deploy/starttls":     {},
	"mxcert/deploy/dane":         {"mxcert/acme/resolve", "mxcert/acme/state", "mxcert/deploy/verdict"},                         // the memory of looks has instants of the state
	"mxcert/deploy/dane/publish": {"mxcert/acme/dnsupdate", "mxcert/acme/resolve", "mxcert/deploy/dane", "mxcert/hooks/script"}, // which says which files are hooks, as for all hooks
	"mxcert/deploy/mx":           {"mxcert/acme/resolve"},
	"mxcert/deploy/mtasts":       {"mxcert/acme/resolve"},
	"mxcert/deploy/ocsp":         {},
	"mxcert/deploy/verdict":      {"mxcert/acme/resolve", "mxcert/deploy/mtasts", "mxcert/deploy/starttls"}, // pure: it judges what they found
	"mxcert/deploy/survey":       {"mxcert/acme/resolve", "mxcert/deploy/mtasts", "mxcert/deploy/mx", "mxcert/deploy/starttls", "mxcert/deploy/verdict"},
	"mxcert/deploy/tlsrpt":       {},
	"mxcert/hooks/journal":       {},
	"mxcert/hooks/metrics":       {},
	"mxcert/hooks/notify":        {"mxcert/hooks/script"},
	"mxcert/hooks/run":           {},
	"mxcert/hooks/sdnotify":      {},
	"mxcert/hooks/script":        {},
	"mxcert/hooks/unit":          {},
	"mxcert/hooks/watch":         {},

	// For the tests of stores; nothing that is shipped links it.
	"mxcert/acme/state/storetest": {"mxcert/acme/state"},
	// Members of etcd in the process of a test; likewise.
	"mxcert/acme/state/etcd/etcdtest": {},
	// A CA, a log and the services that have indexed it, for tests.
	"mxcert/acme/ct/cttest": {"mxcert/acme/ct/sct"},
	// For the tests of publishers, likewise; a port at which nobody listens comes from the lab.
	"mxcert/deploy/dane/publish/publishtest": {"mxcert/acme/resolve", "mxcert/cmd/mxcert-lab/port", "mxcert/deploy/dane"},
}

// internal is where the rooms of the program are; the list names them without it.
const internal = "mxcert/cmd/mxcert/internal/"

// leaves are rooms that any other may use: they import the standard library alone.
var leaves = []string{"mxcert/acme/authority", "mxcert/acme/bundle", "mxcert/acme/finding", "mxcert/hooks/run"}

// homes says which package trees may import a library, directly. The bundle is standard library alone.
var homes = map[string][]string{
	"filippo.io/age":                   {"mxcert/acme/fleet/seal"}, // and edwards25519: no other room handles keys of the fleet
	"filippo.io/edwards25519":          {"mxcert/acme/fleet/seal"},
	"github.com/arran4/golang-ical":    {"mxcert/cmd/mxcert/internal/page"},
	"github.com/go-acme/lego/v4":       {"mxcert/acme"},
	"github.com/go-jose/go-jose/v4":    {"mxcert/acme", "mxcert/cmd"}, // import reads the keys of others
	"github.com/coreos/go-systemd/v22": {"mxcert/hooks"},
	"github.com/godbus/dbus/v5":        {"mxcert/hooks"},
	"github.com/fsnotify/fsnotify":     {"mxcert/hooks", "mxcert/cmd/mxcert-lab"},
	"github.com/letsencrypt/pebble/v2": {"mxcert/cmd/mxcert-lab"},
	"github.com/miekg/dns":             {"mxcert/acme/dnsprovider", "mxcert/acme/dnsupdate", "mxcert/acme/resolve", "mxcert/cmd/mxcert-lab"},
	"github.com/wneessen/go-mail":      {"mxcert/hooks"},
	"go.yaml.in/yaml/v4":               {"mxcert/configs"},
	"github.com/prometheus":            {"mxcert/hooks/metrics"},
	"go.etcd.io/etcd/client":           {"mxcert/acme/state/etcd"},
	"go.etcd.io/etcd/api":              {"mxcert/acme/state/etcd"},
	"go.etcd.io/etcd/server":           {"mxcert/acme/state/etcd/etcdtest"},
	"go.uber.org/zap":                  {"mxcert/acme/state/etcd"}, // etcd's client wants one that is silent
	"google.golang.org/grpc":           {"mxcert/acme/state/etcd"},
	"golang.org/x/net/netutil":         {"mxcert/hooks/metrics"},
	"golang.org/x/crypto":              {"mxcert/deploy/ocsp"}, // and tests make responses with it
	"github.com/spf13/cobra":           {"mxcert/cmd", "mxcert/packaging/man"},
	"github.com/spf13/cobra/doc":       {"mxcert/packaging/man"},
	"github.com/cpuguy83/go-md2man/v2": {"mxcert/packaging/man"},
}

func TestArrowsBetweenRooms(t *testing.T) {
	out := goList(t, "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "mxcert/...")
	seen := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		pkg, imports, _ := strings.Cut(line, " ")
		seen[strings.TrimPrefix(pkg, internal)] = true
		for _, imported := range strings.Fields(imports) {
			checkArrow(t, pkg, imported)
			checkHome(t, pkg, imported)
		}
	}
	for pkg := range permitted {
		if !seen[pkg] {
			t.Errorf("the list names %s, which does not exist", pkg)
		}
	}
}

func checkArrow(t *testing.T, pkg, imported string) {
	t.Helper()
	pkg, imported = strings.TrimPrefix(pkg, internal), strings.TrimPrefix(imported, internal)
	room := !strings.Contains(imported, "/") && !strings.Contains(imported, ".") && permitted[imported] != nil
	if !room && !strings.HasPrefix(imported, "mxcert/") || slices.Contains(leaves, imported) {
		return
	}
	if strings.HasPrefix(pkg, "mxcert/cmd/mxcert-lab") || strings.HasPrefix(pkg, "mxcert/packaging/") {
		return
	}
	allowed, known := permitted[pkg]
	if !known {
		t.Errorf("%s is not in the list of permitted arrows", pkg)
	} else if !slices.Contains(allowed, imported) {
		t.Errorf("%s imports %s: this arrow is not permitted", pkg, imported)
	}
}

func checkHome(t *testing.T, pkg, imported string) {
	for library, allowed := range homes {
		if imported != library && !strings.HasPrefix(imported, library+"/") {
			continue
		}
		if !slices.ContainsFunc(allowed, func(home string) bool {
			return pkg == home || strings.HasPrefix(pkg, home+"/") || home == "mxcert/cmd" && strings.HasPrefix(pkg, "mxcert/cmd/")
		}) {
			t.Errorf("%s imports %s, which only %v may", pkg, imported, allowed)
		}
	}
}

// The lab's dependencies would add a CA and a name server to a program that holds private keys.
func TestLabIsNotLinkedIntoMxcert(t *testing.T) {
	for _, dep := range strings.Fields(goList(t, "-deps", "mxcert/cmd/mxcert")) {
		if strings.Contains(dep, "letsencrypt/pebble") || strings.HasPrefix(dep, "mxcert/cmd/mxcert-lab") || dep == "testing" {
			t.Errorf("mxcert links %s", dep)
		}
	}
	if deps := goList(t, "-deps", "mxcert/cmd/mxcert-lab/lab"); !strings.Contains(deps, "letsencrypt/pebble") {
		t.Error("the lab links no Pebble: this test sees nothing")
	}
}

// A server of etcd is for tests alone. Its client is in one room, and a build without fleets has nothing of it.
func TestEtcdIsWhereItBelongs(t *testing.T) {
	etcd := regexp.MustCompile(`^(go\.etcd\.io|google\.golang\.org/grpc|go\.uber\.org/zap)(/|$)`)
	client := false
	for _, dep := range strings.Fields(goList(t, "-deps", "mxcert/cmd/mxcert")) {
		client = client || dep == "go.etcd.io/etcd/client/v3"
		if strings.HasPrefix(dep, "go.etcd.io/etcd/server") || strings.HasPrefix(dep, "mxcert/acme/state/etcd/etcdtest") || strings.Contains(dep, "porcupine") {
			t.Errorf("mxcert links %s", dep)
		}
	}
	if !client {
		t.Error("mxcert does not link the client of etcd: this test sees nothing")
	}
	for _, dep := range strings.Fields(goList(t, "-tags", "nofleet", "-deps", "mxcert/cmd/mxcert")) {
		if etcd.MatchString(dep) || dep == "mxcert/acme/state/etcd" {
			t.Errorf("mxcert without fleets links %s", dep)
		}
	}
	if deps := goList(t, "-deps", "mxcert/acme/state/etcd/etcdtest"); !strings.Contains(deps, "go.etcd.io/etcd/server") {
		t.Error("etcdtest links no server: this test sees nothing")
	}
}

// What others get from acme/resolve has no type of the library that speaks DNS, so that the library can be changed there alone.
func TestResolveHidesItsLibrary(t *testing.T) {
	out, err := exec.Command("go", "doc", "-all", "mxcert/acme/resolve").Output()
	if err != nil {
		t.Fatalf("go doc: %v", err)
	}
	declared := 0
	for _, line := range strings.Split(string(out), "\n") {
		if strings.HasPrefix(line, "    ") { // a comment
			continue
		}
		if declared += strings.Count(line, "Resolver)"); regexp.MustCompile(`\bdns\.[A-Z]`).MatchString(line) {
			t.Errorf("acme/resolve shows a type of its library: %s", line)
		}
	}
	if declared == 0 {
		t.Error("no method was seen: this test sees nothing")
	}
}

// Every question of the program to DNS goes through acme/resolve, also those that the standard library asks.
func TestOnlyResolveAsksDNS(t *testing.T) {
	asks := regexp.MustCompile(`\bnet\.(DefaultResolver\.|\w*Resolver\.)?Lookup(Host|IP|NetIP|IPAddr|Addr|CNAME|MX|NS|SRV|TXT)\b|\bnet\.Resolve\w+Addr\b|\bnet\.Resolver\{`)
	found := 0
	for _, line := range strings.Split(strings.TrimSpace(goList(t, "-deps", "-f", "{{$d := .Dir}}{{$p := .ImportPath}}{{range .GoFiles}}{{$p}} {{$d}}/{{.}}\n{{end}}", "mxcert/cmd/mxcert")), "\n") {
		pkg, path, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(pkg, "mxcert/") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch asked := asks.FindAll(text, -1); {
		case pkg == "mxcert/acme/resolve":
			found += len(asked)
		case len(asked) > 0:
			t.Errorf("%s asks DNS itself: %s", path, asked[0])
		}
	}
	if found == 0 {
		t.Error("not even acme/resolve asks: this test sees nothing")
	}
}

func goList(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return string(out)
}
