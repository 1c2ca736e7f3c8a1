package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"

	"mxcert/acme/state/etcd/etcdtest"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// fleetOf is some mail hosts of one CA that share a cluster.
type fleetOf struct {
	t       *testing.T
	cluster *etcdtest.Cluster
	hosts   []*host // mx1, mx2, …
	age     []*age.X25519Identity
}

// newFleet makes hosts; nothing has run yet.
func newFleet(t *testing.T, hosts int) *fleetOf {
	t.Helper()
	f := &fleetOf{t: t, cluster: etcdtest.Start(t, 1)}
	var recipients []string
	for range hosts + 1 { // and a recovery key
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		f.age, recipients = append(f.age, identity), append(recipients, identity.Recipient().String())
	}
	for i := range hosts {
		h := newHost(t, lab.Options{}, lab.ConfigOptions{})
		f.hosts = append(f.hosts, h)
		first := f.hosts[0]
		text := strings.ReplaceAll(first.Config(lab.ConfigOptions{Endpoints: []string{h.SMTP.Address()}}), first.Directory, h.Directory)
		for _, file := range []string{"ca.pem", "roots.pem", "credentials/tsig"} { // the CA and DNS are those of the first
			roots, err := os.ReadFile(first.Path(file))
			h.check(err)
			h.check(os.WriteFile(h.Path(file), roots, 0o600))
		}
		h.check(os.WriteFile(h.Path("credentials", "age"), []byte("# created: today\n"+f.age[i].String()+"\n"), 0o600))
		name := []string{"mx1", "mx2", "mx3"}[i]
		h.write(text + "fleet:\n  name: berlin\n  host: " + name + "\n  etcd: {endpoints: [\"" + strings.Join(f.cluster.Endpoints(), `", "`) + "\"]}\n" +
			"  identity: \"file:" + h.Path("credentials", "age") + "\"\n  recipients: [" + strings.Join(recipients, ", ") + "]\n")
	}
	return f
}

// get asks the store itself.
func (f *fleetOf) get(key string, options ...clientv3.OpOption) *clientv3.GetResponse {
	f.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: f.cluster.Endpoints(), DialTimeout: 5 * time.Second})
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Second)
	defer cancel()
	got, err := client.Get(ctx, key, options...)
	if err != nil {
		f.t.Fatal(err)
	}
	return got
}

// keys lists what the store has.
func (f *fleetOf) keys() (keys []string) {
	f.t.Helper()
	for _, kv := range f.get("", clientv3.WithPrefix(), clientv3.WithKeysOnly()).Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}

// value returns the value of a key.
func (f *fleetOf) value(key string) []byte {
	f.t.Helper()
	got := f.get(key)
	if len(got.Kvs) != 1 {
		f.t.Fatalf("the store has no %s: %q", key, f.keys())
	}
	return got.Kvs[0].Value
}

// document runs a command with --json and reads its document.
func document[T any](h *host, code report.Code, args ...string) (document T) {
	h.t.Helper()
	got := h.run(append(args, "--json")...)
	if err := json.Unmarshal([]byte(got.stdout), &document); err != nil {
		h.t.Fatalf("%v printed no JSON (%v):\n%s\n%s", args, err, got.stdout, got.stderr)
	}
	if got.code != code {
		h.t.Fatalf("%v exited with %d, want %d:\n%s\n%s", args, got.code, code, got.stdout, got.stderr)
	}
	return document
}

// files lists what a host has in its state.
func (h *host) files() (files []string) {
	h.t.Helper()
	err := filepath.WalkDir(h.Path("state"), func(path string, _ os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if path != h.Path("state") { // the lab makes it
			files = append(files, path)
		}
		return err
	})
	h.check(err)
	return files
}

// Two hosts: the first orders, the second takes part, and everything that a person asks is answered; also when the store is gone.
func TestFleetOfTwo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	mx1, mx2 := f.hosts[0], f.hosts[1]
	served := func(h *host) string { return h.report(report.CodeOK, "status").Certificates[0].Endpoints[0].Serial }

	begin := document[joinReport](mx1, report.CodeOK, "fleet", "join")
	if !begin.OK || begin.Joined || len(begin.Plan) != 1 || begin.Plan[0].Action != "order" || !strings.Contains(begin.Checks[len(begin.Checks)-1].Message, "begins the fleet") {
		t.Errorf("the first host: %+v", begin)
	}
	if keys, files := f.keys(), mx1.files(); len(keys)+len(files) > 0 {
		t.Errorf("a look has written %q, %q", keys, files)
	}
	mx1.report(report.CodeOK, "renew")
	first := served(mx1)
	f.recovers("mx/ec256")

	before := f.keys()
	plan := document[joinReport](mx2, report.CodeOK, "fleet", "join")
	if p := plan.Plan; len(p) != 1 || p[0].Action != "take" || p[0].Serial != first || p[0].From != "mx1" || p[0].Generation < 1 || plan.Joined || !plan.OK {
		t.Errorf("the second host: %+v", plan)
	}
	if files := mx2.files(); len(files) > 0 || !slices.Equal(before, f.keys()) {
		t.Errorf("a look has written %q, or to the store: %q", files, f.keys())
	}
	if text := mx2.run("fleet", "join"); !strings.Contains(text.said(), "taken from mx1, and deployed") || !strings.Contains(text.said(), "Nothing was written: mxcert fleet join --yes takes part now") {
		t.Errorf("for a person:\n%s%s", text.stdout, text.stderr)
	}
	joined := document[joinReport](mx2, report.CodeOK, "fleet", "join", "--yes")
	if !joined.Joined || !joined.Changed || joined.Certificates[0].Keys[0].Serial != first || served(mx2) != first {
		t.Errorf("joined: %+v", joined)
	}
	if n := mx1.placed(); n != 1 {
		t.Errorf("%d orders were placed for two hosts", n)
	}
	f.asked(first)

	f.cluster.Members[0].Stop()
	away := document[fleetReport](mx2, report.CodeTemporary, "fleet", "status")
	if away.Engine.Up || away.Engine.Reason == "" || away.Engine.Since == nil || len(away.Certificates) != 1 || away.OK {
		t.Errorf("without the store: %+v", away)
	}
	f.completes(mx2)
	if got := mx2.run("fleet", "join"); got.code != report.CodeTemporary || !strings.Contains(got.said(), "Nothing was written.") {
		t.Errorf("join without the store: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	for _, args := range [][]string{{"fleet", "forget", "mx1", "--yes"}, {"fleet", "recipients", "remove", "mx1", "--yes"}, {"fleet", "recipients", "add", f.age[2].Recipient().String()}} {
		if got := mx2.run(args...); got.code != report.CodeTemporary {
			t.Errorf("%v without the store: %d\n%s%s", args, got.code, got.stdout, got.stderr)
		}
	}
	if r := mx1.report(report.CodeOK, "status").Fleet; r == nil || !r.Engine.Up || r.Engine.Since == nil || r.Name != "berlin" || r.Host != "mx1" {
		t.Errorf("before it was asked again: %+v", r)
	}
	waits := mx1.report(report.CodeTemporary, "renew", "--now").Certificates[0]
	if waits.Error == nil || waits.Error.Kind != pass.KindFleetAway || mx1.placed() != 1 {
		t.Errorf("a renewal without the store: %+v, %d orders", waits.Error, mx1.placed())
	}
	if r := mx1.report(report.CodeOK, "status").Fleet; r.Engine.Up || r.Engine.Since == nil || r.Engine.Reason == "" {
		t.Errorf("after it was asked: %+v", r)
	}
	if text := mx1.run("status"); !strings.Contains(text.said(), "fleet berlin error its store cannot be used since") {
		t.Errorf("for a person:\n%s", text.stdout)
	}
	if served(mx1) != first || served(mx2) != first {
		t.Error("the store is away, and something else is served")
	}
	f.cluster.Members[0].Start()
	mx1.report(report.CodeOK, "renew", "--now")
	if second := served(mx1); second == first || !mx1.report(report.CodeOK, "status").Fleet.Engine.Up {
		t.Errorf("the store is back, and mx1 serves %s", second)
	}
	f.leaves()
}

// recovers opens what is in the store with the recovery key alone, as mxcert-fleet(7) says.
func (f *fleetOf) recovers(certificate string) {
	f.t.Helper()
	var envelope struct{ Payload []byte }
	var payload struct{ Sealed []byte }
	f.hosts[0].check(json.Unmarshal(f.value("/mxcert/v1/berlin/certificate/"+certificate), &envelope))
	f.hosts[0].check(json.Unmarshal(envelope.Payload, &payload))
	opened, err := age.Decrypt(bytes.NewReader(payload.Sealed), f.age[len(f.age)-1])
	f.hosts[0].check(err)
	if text, err := io.ReadAll(opened); err != nil || !bytes.Contains(text, []byte("PRIVATE KEY")) {
		f.t.Errorf("the recovery key opens no key: %v", err)
	}
}

// leaves takes mx2, which still serves the first certificate, out of the fleet.
func (f *fleetOf) leaves() {
	t, mx1 := f.t, f.hosts[0]
	t.Helper()
	if r := document[fleetReport](mx1, report.CodeFault, "fleet", "status"); r.Certificates[0].Hosts[1].Matches || r.Certificates[0].Hosts[1].Reason == "" || r.OK {
		t.Errorf("mx2 is behind: %+v", r.Certificates)
	}
	before := mx1.report(report.CodeOK, "status").Certificates[0].Keys[0]
	two := f.age[1].Recipient().String()
	r := document[recipientsReport](mx1, report.CodeOK, "fleet", "recipients", "remove", two, "--yes")
	if !slices.ContainsFunc(r.Recipients, func(t fleetRecipient) bool {
		return t.Recipient == two && t.State == recipientRemoved && t.Host == "mx2"
	}) || len(r.Encrypted) == 0 || !strings.Contains(r.Next, two) {
		t.Errorf("removed: %+v", r)
	}
	if after := mx1.report(report.CodeOK, "status").Certificates[0].Keys[0]; after.SPKI == before.SPKI {
		t.Errorf("mx2 could read the key %s, which is still served", before.SPKI)
	}
	if got := mx1.run("fleet", "forget", "mx2", "--yes"); got.code != report.CodeOK || !strings.Contains(got.said(), "mx2 is forgotten. Its recipient was removed before, so no host trusts it.") {
		t.Errorf("forgotten: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	if r := document[fleetReport](mx1, report.CodeOK, "fleet", "status"); len(r.Certificates[0].Hosts) != 1 {
		t.Errorf("mx2 is forgotten: %+v", r.Certificates)
	}
	if got := f.hosts[1].run("fleet", "join"); got.code != report.CodeFault || !strings.Contains(got.said(), "removed") {
		t.Errorf("mx2 comes back: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

// asked looks at what the commands say of two hosts that serve the same.
func (f *fleetOf) asked(serial string) {
	t, mx1 := f.t, f.hosts[0]
	t.Helper()
	r := document[fleetReport](mx1, report.CodeOK, "fleet", "status")
	if c := r.Certificates; len(c) != 1 || c[0].Serial != serial || c[0].Host != "mx1" || len(c[0].Hosts) != 2 || !c[0].Hosts[0].Matches || !c[0].Hosts[1].Matches || c[0].Hosts[1].Served != serial || !r.Engine.Up || !r.OK {
		t.Errorf("status: %+v", r)
	}
	if text := mx1.run("fleet", "status"); text.code != report.CodeOK || strings.Count(text.stdout, "newest   newest") != 2 {
		t.Errorf("for a person: %d\n%s%s", text.code, text.stdout, text.stderr)
	}
	list := document[recipientsReport](mx1, report.CodeOK, "fleet", "recipients")
	if len(list.Recipients) != 3 || !slices.ContainsFunc(list.Recipients, func(t fleetRecipient) bool { return t.Source == "this host" && t.Host == "mx1" }) {
		t.Errorf("recipients: %+v", list)
	}
	for _, wrong := range []struct {
		args []string
		says string
	}{
		{[]string{"fleet", "forget", "mx1"}, "mx1 is this host"},
		{[]string{"fleet", "forget", "mx9", "--yes"}, `knows no host "mx9"`},
		{[]string{"fleet", "recipients", "remove", f.age[0].Recipient().String(), "--yes"}, "the recipient of this host"},
		{[]string{"fleet", "recipients", "remove", "mx9", "--yes"}, "neither a recipient nor a host"},
		{[]string{"fleet", "recipients", "remove", f.age[1].Recipient().String()}, "nothing was removed"},
		{[]string{"fleet", "recipients", "add", "age1nonsense"}, "age1nonsense"},
		{[]string{"fleet"}, "fleet status, fleet join"},
	} {
		if got := mx1.run(wrong.args...); got.code != report.CodeUsage || !strings.Contains(got.stderr, wrong.says) {
			t.Errorf("%v: %d\n%s%s", wrong.args, got.code, got.stdout, got.stderr)
		}
	}
}

// Without the section, the commands say so.
func TestNoFleet(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	for _, args := range [][]string{{"fleet", "status"}, {"fleet", "join"}, {"fleet", "recipients"}, {"fleet", "forget", "mx2"}} {
		if got := h.run(args...); got.code != report.CodeUsage || !strings.Contains(got.stderr, "has no section fleet") {
			t.Errorf("%v: %d\n%s%s", args, got.code, got.stdout, got.stderr)
		}
	}
}
