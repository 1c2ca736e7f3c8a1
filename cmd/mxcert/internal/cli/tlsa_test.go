package cli

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// daneHost is a host in signed zones, whose configuration has a dane section.
func daneHost(t *testing.T, mode string, options lab.Options) *host {
	t.Helper()
	options.Signed = true
	h := newHost(t, options, lab.ConfigOptions{Domains: []string{"mx.example.org"}})
	h.edit("    keys:", "    dane: {mode: \""+mode+"\", ports: ["+h.port()+"], hold: 0s, ttl: 2s}\n    keys:")
	return h
}

// port is that of the mail server.
func (h *host) port() string {
	_, port, _ := net.SplitHostPort(h.SMTP.Address())
	return port
}

// owner is where the records of the mail server are.
func (h *host) owner() string { return "_" + h.port() + "._tcp.mx.example.org" }

// What is typed wrongly, or does not fit the mode, changes nothing, and the message says what to do.
func TestTLSAWrongUse(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "check", lab.Options{})
	for _, tt := range []struct {
		line, want string
		code       report.Code
	}{
		{"tlsa", "tlsa show, tlsa check, tlsa publish or tlsa roll?", report.CodeUsage},
		{"tlsa shwo", `did you mean "tlsa show"?`, report.CodeUsage},
		{"tlsa show nx", `no certificate "nx"; it has: mx`, report.CodeUsage},
		{"tlsa check nx", `no certificate "nx"; it has: mx`, report.CodeUsage},
		{"tlsa publish nx", `no certificate "nx"; it has: mx`, report.CodeUsage},
		{"tlsa roll nx", `no certificate "nx"; it has: mx`, report.CodeUsage},
		{"tlsa show mx mx", "wrong number of arguments", report.CodeUsage},
		{"tlsa check mx host7", "wrong number of arguments", report.CodeUsage},
		{"tlsa roll mx --fresh", "--emergency --fresh", report.CodeUsage},
		{"tlsa show --format bind", "--format is zone, nsupdate or json", report.CodeUsage},
		{"tlsa publish mx --adoptt", "did you mean --adopt?", report.CodeUsage},
		{"tlsa publish mx", "dane.mode of mx is check, and this command needs publish", report.CodeUsage},
		{"tlsa publish mx --json", `"hint": "write dane: {mode: publish}`, report.CodeUsage},
		{"tlsa show", "mx has no certificate yet", report.CodeTemporary},
		{"tlsa check mx", "mxcert renew mx", report.CodeTemporary},
		{"tlsa roll mx --emergency --yes", "mx has no certificate yet", report.CodeTemporary},
	} {
		got := h.run(strings.Fields(tt.line)...)
		if said := strings.Join(strings.Fields(got.stdout+got.stderr), " "); got.code != tt.code || !strings.Contains(said, tt.want) {
			t.Errorf("%s: exit code %d, want %d with %q\n%s%s", tt.line, got.code, tt.code, tt.want, got.stdout, got.stderr)
		}
	}
	h.edit(`mode: "check"`, `mode: "gate"`)
	if got := h.run("tlsa", "publish"); got.code != report.CodeUsage || !strings.Contains(got.stderr, "`mxcert tlsa show mx` prints them") {
		t.Errorf("publish with mode gate: %d\n%s", got.code, got.stderr)
	}
	h.edit(`mode: "gate"`, `mode: "off"`)
	if got := h.run("tlsa", "roll"); got.code != report.CodeUsage || !strings.Contains(got.stderr, "needs check, gate or publish") || !strings.Contains(got.stderr, "--new-key") {
		t.Errorf("roll with mode off: %d\n%s", got.code, got.stderr)
	}
	if h.placed() > 0 {
		t.Error("an order was placed")
	}
}

// tlsaOf is a report in which a record is missing on one server.
func tlsaOf(state string) *report.TLSA {
	until := time.Now().Add(3*time.Hour + time.Minute).UTC().Truncate(time.Minute)
	at := func(n string) report.SeenBy {
		return report.SeenBy{Server: "ns" + n + ".example.org", Address: "192.0.2." + n + ":53", Serial: 2026113001}
	}
	silent := at("2")
	silent.Fault, silent.Serial = "no answer", 0
	return &report.TLSA{Mode: "publish", State: state, WaitingFor: "ns2.example.org lacks the record", Until: &until,
		Keys: []report.TLSAKey{{Key: "ec256", State: state, WaitingFor: "ns2.example.org lacks the record", Until: &until}, {Key: "rsa2048", State: "steady"}},
		Records: []report.TLSARecord{
			{Owner: "_25._tcp.mx.example.org", Record: "3 1 1 " + strings.Repeat("0123456789abcdef", 4), Ours: true, Matches: "next ec256", SeenBy: []report.SeenBy{at("1")}, Missing: []report.SeenBy{silent}},
			{Owner: "_25._tcp.mx.example.org", Record: "2 1 1 " + strings.Repeat("fedcba9876543210", 4), SeenBy: []report.SeenBy{at("1"), silent}},
		}}
}

// columns returns what is printed to 80 columns.
func columns(print func(out sheet)) string {
	var out bytes.Buffer
	print(sheet{Writer: &out, width: 80, paint: func(text, _ string) { out.WriteString(text) }})
	return out.String()
}

func TestTLSAInStatus(t *testing.T) {
	t.Parallel()
	r := tlsaOf("spreading")
	want := `  tlsa         mode publish, spreading
  tlsa ec256   spreading until ` + report.Minute(*r.Until) + ` (in 3 hours):
               ns2.example.org lacks the record
  owner        _25._tcp.mx.example.org, asked: ns1.example.org [192.0.2.1:53]
               serial 2026113001, ns2.example.org [192.0.2.2:53] (no answer)
               3 1 1 01234567…89abcdef: next ec256, added by mxcert, on 1 of 2
                 servers, missing at ns2.example.org [192.0.2.2:53]
               2 1 1 fedcba98…76543210: fits nothing here
`
	if got := columns(func(out sheet) { printTLSA(out, "mx", r, false) }); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for state, mark := range map[string]string{"spreading": "served, TLSA spreading", "blocked": "served, TLSA fault", "steady": "served", "": "served"} {
		c := report.New("mx", []string{"mx.example.org"})
		c.Stage, c.TLSA = report.Served, tlsaOf(state)
		if got := cellsOf(c, time.Now())[1]; got != mark {
			t.Errorf("%s: %q in the table, want %q", state, got, mark)
		}
	}
}

func TestTLSACheckInFull(t *testing.T) {
	t.Parallel()
	r := tlsaOf("spreading")
	want := `  tlsa         mode publish, spreading
  tlsa ec256   spreading until ` + report.Minute(*r.Until) + ` (in 3 hours):
               ns2.example.org lacks the record
  owner        _25._tcp.mx.example.org, asked: ns1.example.org [192.0.2.1:53]
               serial 2026113001, ns2.example.org [192.0.2.2:53] (no answer)
    3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
      next ec256, added by mxcert, on 1 of 2 servers, missing at ns2.example.org
      [192.0.2.2:53]
    2 1 1 fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210
      fits nothing here
`
	if got := columns(func(out sheet) { printTLSA(out, "mx", r, true) }); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The records of a refusal have lines of their own that can be copied: in a zone file, a blank at the beginning would stand for the owner
// above.
func TestRefusalShowsTheRecords(t *testing.T) {
	t.Parallel()
	record := "_25._tcp.mx.example.org. 3600 IN TLSA 3 1 1 " + strings.Repeat("0123456789abcdef", 4)
	e := &report.Error{Stage: "deploy", Message: "you have to publish _25._tcp.mx.example.org IN TLSA 3 1 1 " + strings.Repeat("0123456789abcdef", 4), Hint: "publish " + record + " and keep the present records", Publish: []string{record}}
	want := `  error        deploy: you have to publish _25._tcp.mx.example.org IN TLSA 3 1 1
               01234567…89abcdef
  publish      this TLSA record:
` + record + `
  next step    publish this record and keep the present records
`
	if got := columns(func(out sheet) { out.trouble(e) }); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The records can be shown before anything is published, with dead name servers, and with a damaged state.
func TestTLSAShow(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "check", lab.Options{})
	key := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	want := h.owner() + ". 2 IN TLSA 3 1 1 " + key.SPKI + "\n"
	for _, what := range []string{"nothing is published", "the state is damaged", "no name server answers"} {
		switch what {
		case "the state is damaged":
			h.check(os.WriteFile(h.Path("state", "lineages", "mx", "tlsa.json"), []byte("{"), 0o600))
		case "no name server answers":
			h.edit("resolvers: ", "resolvers: [\"127.0.0.1:9\"] # ")
		}
		if got := h.run("tlsa", "show"); got.code != report.CodeOK || !strings.Contains(got.stdout, "\n"+want) {
			t.Errorf("%s: %d\n%s%s", what, got.code, got.stdout, got.stderr)
		} else if what != "nothing is published" && !strings.Contains(got.stdout, "; warning: ") {
			t.Errorf("%s: no warning\n%s", what, got.stdout)
		}
		var shown shownTLSA
		got := h.run("tlsa", "show", "--format", "json")
		if err := json.Unmarshal([]byte(got.stdout), &shown); err != nil || got.code != report.CodeOK || len(shown.Records) != 1 || strings.Contains(got.stdout, "null") {
			t.Errorf("%s: %v\n%s", what, err, got.stdout)
		}
		if r := shown.Records; len(r) == 1 && (r[0].Role != "current" || r[0].Key != "ec256" || r[0].Present || shown.TTL != 2 || shown.NewKey == "") {
			t.Errorf("%s: %+v", what, shown)
		}
	}
}
