package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

// A stateRow is one question of the world, its answer as the world was made, and the answers of three who judge it.
type stateRow struct {
	name, kind string
	want       string
	ours       lookAnswer
	unbound    string
	delv       string
}

// lookAnswer is what packaging/e2e/world/look prints.
type lookAnswer struct {
	State     string
	Validator string
	Final     string
	Missing   bool
	Records   int
	Failure   string
	Took      time.Duration
	// Since and Until are the validity of the signatures.
	Since, Until time.Time
	Served       []struct {
		Address, Fault, Signature string
		Records                   int
		Since, Until              time.Time
	}
}

// A world of zones of every state.
func TestDNSWorld(t *testing.T) {
	mailhost.Require(t)
	t.Parallel()
	w, d := stateWorld(t)
	if err := errors.Join(d.StartPlainResolver(t.Context()), d.StartIterator(t.Context())); err != nil {
		t.Fatal(err)
	}
	rows := questions(stateZones())
	t.Run("states", func(t *testing.T) { testStates(t, w, d, rows) })
	t.Run("trust", func(t *testing.T) { testTrust(t, w, d, rows) })
	t.Run("signatures", func(t *testing.T) { testSignatures(t, w) })
}

// Our states, those of Unbound and those of delv agree on every name and type of the world.
func testStates(t *testing.T, w *world.World, d *world.DNS, rows []*stateRow) {
	began := time.Now()
	askUs(t, w.Sender, rows, func(r *stateRow, a lookAnswer) { r.ours = a }, "-parallel", "8")
	figure(t, "%d questions by acme/resolve in %v", len(rows), time.Since(began).Round(time.Millisecond))
	began = time.Now()
	askJudges(t, w, rows, d.AnchorConf)
	figure(t, "the same by unbound-host, dig and delv in %v", time.Since(began).Round(time.Millisecond))
	askAgain(t, w, d, rows)
	differ, used := 0, map[string]bool{}
	for _, r := range rows {
		if left := time.Until(r.ours.Until); r.ours.State == "secure" && (left < 29*24*time.Hour || left > 30*24*time.Hour || time.Since(r.ours.Since) > 2*time.Hour) {
			t.Errorf("%s: its signatures are valid from %v to %v", r.question(), r.ours.Since, r.ours.Until)
		}
		if r.agreed() {
			continue
		}
		why := explanation(r.question(), r.states())
		if why == "" {
			t.Errorf("%s: wanted %s; %s\n%s", r.question(), r.want, r.states(), r.ours.Failure)
			continue
		}
		differ, used[why] = differ+1, true
		t.Logf("%s: %s: %s", r.question(), r.states(), why)
	}
	for _, e := range explained {
		if !used[e.why] {
			t.Errorf("no state differs any more as this explains: %s", e.why)
		}
	}
	figure(t, "%d states agree, %d differ and are explained", len(rows)-differ, differ)
}

// askAgain asks everybody once more what only an error makes different: on a busy machine a resolver may give up on a server that is slow.
func askAgain(t *testing.T, w *world.World, d *world.DNS, rows []*stateRow) {
	t.Helper()
	again := slices.DeleteFunc(slices.Clone(rows), func(r *stateRow) bool {
		return r.want == "error" || r.agreed() || !strings.Contains(r.states(), "error") || explanation(r.question(), r.states()) != ""
	})
	if len(again) == 0 {
		return
	}
	t.Logf("%d questions are asked again", len(again))
	if err := d.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	askUs(t, w.Sender, again, func(r *stateRow, a lookAnswer) { r.ours = a })
	askJudges(t, w, again, d.AnchorConf)
}

// states are the answers of everybody, in words.
func (r *stateRow) states() string {
	return fmt.Sprintf("ours %s, Unbound %s, delv %s", r.ours.State, r.unbound, r.delv)
}

func (r *stateRow) agreed() bool {
	return r.ours.State == r.want && r.unbound == r.want && r.delv == r.want
}

// explained are the differences between the judges that are no faults.
var explained = []struct{ question, got, why string }{
	{`^(_25\._tcp\.)?(nope|any\.wild)\.optout\.`, "ours insecure, Unbound insecure, delv secure",
		"RFC 5155 section 9.2: AD must not be set on a denial by Opt-Out; delv sets no AD and says that the proof is valid"},
	{`^mx\.deep\.aliasplain\.test (A|AAAA|MX|TLSA|TXT)$`, "ours error, Unbound insecure, delv error",
		"RFC 2308 section 2.2: Unbound's answer ends at an alias, with neither records nor a denial; that is no answer"},
	{`^mx\.(ds|di|db|deep)\.alias\.test CNAME$`, "ours secure, Unbound bogus, delv (secure|insecure|bogus|error)",
		"RFC 6672 section 5.3.1: a CNAME record that follows from a DNAME record has no signature, so that Unbound, asked for it alone, takes it for bogus; ours is the state of the DNAME record; delv judges what it leads to"},
	{`^mx\.(db|deep)\.aliasplain\.test CNAME$`, "ours insecure, Unbound insecure, delv (bogus|error)",
		"RFC 6672 section 3.4: delv is asked for the alias, and judges what the DNAME record leads to"},
	{`^(_25\._tcp\.)?nope\.(servfail|refused|formerr|notimp|dropped|notcp)\.test TLSA$`, "ours secure, Unbound secure, delv error",
		"RFC 8020 and RFC 9156: Unbound first asks for nope, and nothing is below a name whose denial it has validated; the resolver of delv does not validate, and asks on"},
}

func explanation(question, got string) string {
	for _, e := range explained {
		if regexp.MustCompile("^"+e.got+"$").MatchString(got) && regexp.MustCompile(e.question).MatchString(question) {
			return e.why
		}
	}
	return ""
}

func stateWorld(t *testing.T) (*world.World, *world.DNS) {
	t.Helper()
	w := world.Start(t, "")
	if err := w.Receiver.AddAddress(down + "/24"); err != nil {
		t.Fatal(err)
	}
	var zones []world.Zone
	for _, z := range stateZones() {
		zones = append(zones, z.Zone)
	}
	d, err := w.ServeDNS(t.Context(), zones...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.Logs())
		}
	})
	if _, err := w.Receiver.Fronts(t.Context(), fronts()...); err != nil {
		t.Fatal(err)
	}
	if err := w.Sender.Install(t.Context(), "mxcert/packaging/e2e/world/look", "/usr/bin/look"); err != nil {
		t.Fatal(err)
	}
	return w, d
}

var types = []string{"A", "AAAA", "MX", "TLSA", "TXT", "CNAME"}

// questions are those about every RRset of the zones, about TLSA records of every name, and about names that do not exist. With MXCERT_DNS=all,
// every name is asked for every type.
func questions(zones []stateZone) []*stateRow {
	var rows []*stateRow
	for _, z := range zones {
		for owner, has := range owners(z.Records) {
			name := z.Name
			if owner != "@" {
				name = strings.ReplaceAll(owner, "*", "any") + "." + z.Name
			}
			for _, kind := range types {
				if !slices.Contains(has, kind) && os.Getenv("MXCERT_DNS") != "all" {
					continue
				}
				want, other := z.other[owner+" "+kind]
				if !other && kind != "CNAME" {
					want, other = z.other[owner]
				}
				if !other {
					want = z.want
				}
				rows = append(rows, &stateRow{name: name, kind: kind, want: want})
			}
		}
	}
	return rows
}

// owners are the names in a master file, and some that are not in it, with the types to ask for.
func owners(records string) map[string][]string {
	always := []string{"TLSA"}
	found := map[string][]string{"@": always, "nope": {"A"}, "_25._tcp.nope": always}
	for line := range strings.Lines(records) {
		f := strings.Fields(line)
		if len(f) < 3 || middle.MatchString(f[0]) {
			continue
		}
		if found[f[0]] == nil {
			found[f[0]] = always
		}
		found[f[0]] = append(slices.Clip(found[f[0]]), f[1])
		if f[1] == "CNAME" && !strings.HasPrefix(f[0], "_") {
			found[f[0]] = []string{"A", "CNAME"}
		}
		if f[1] == "DNAME" {
			found["mx."+f[0]] = []string{"A", "CNAME"}
		}
		if rest, ok := strings.CutPrefix(f[0], "a."); ok {
			found[rest] = always
		}
	}
	return found
}

// middle are the names in the middle of a chain of aliases.
var middle = regexp.MustCompile(`^chain[1-9]*[1-8]$`)

// askUs asks acme/resolve in the sender's network.
func askUs(t *testing.T, h *world.Host, rows []*stateRow, put func(*stateRow, lookAnswer), arguments ...string) {
	t.Helper()
	var input strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&input, "%s %s\n", r.name, r.kind)
	}
	out, err := h.RunInput(t.Context(), input.String(), append([]string{"/usr/bin/look"}, arguments...)...)
	if err != nil || out.Code != 0 {
		t.Fatalf("look: %v, exit code %d\n%s", err, out.Code, out.Stderr)
	}
	answers := json.NewDecoder(strings.NewReader(out.Stdout))
	for _, r := range rows {
		var a lookAnswer
		if err := answers.Decode(&a); err != nil {
			t.Fatal(err)
		}
		put(r, a)
	}
}
