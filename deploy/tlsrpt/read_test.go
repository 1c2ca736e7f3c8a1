package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestReports reads reports as senders write them: the example of RFC 8460 appendix B, and those made like Google's, Microsoft's, Postfix' and mox'.
func TestReports(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/reports/*")
	if err != nil || len(files) < 11 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		got := readFile(t, file)
		golden := filepath.Join("testdata", "golden", filepath.Base(file)+".txt")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v, got\n%s", file, err, got)
		}
	}
}

// readFile returns all reports of a file, one thing a line.
func readFile(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := Read(f)
	var out strings.Builder
	for _, r := range list {
		fmt.Fprintf(&out, "%q %q %s %s\n", r.Organization, r.ID, r.From.Format(time.RFC3339), r.Until.Format(time.RFC3339))
		for _, p := range r.Policies {
			fmt.Fprintf(&out, "  %q %q testing %v good %d bad %d\n", p.Type, p.Domain, p.Testing, p.Good, p.Bad)
			for _, f := range p.Failures {
				fmt.Fprintf(&out, "    %q %q %q %d %q\n", f.Type, f.Host, f.Address, f.Sessions, f.Reason)
			}
		}
	}
	if err != nil {
		fmt.Fprintf(&out, "error: %v\n", err)
	}
	return out.String()
}

// report returns a good report with some text replaced.
func report(t testing.TB, replace ...string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/reports/rfc8460.json")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(replace...).Replace(string(text))
	if len(replace) > 0 && changed == string(text) {
		t.Fatalf("%q is not in the report", replace)
	}
	return changed
}

func packed(text string) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return out.String()
}

func attached(kind, text string) string {
	return "From: a@example.com\nMIME-Version: 1.0\nContent-Type: multipart/report; boundary=b\n\n--b\nContent-Type: " + kind + "\n\n" + text + "\n--b--\n"
}

// TestFaults reads what no honest sender sends, and what arrives beside reports.
func TestFaults(t *testing.T) {
	t.Parallel()
	deep := "text"
	for range mostNested + 2 {
		deep = "Content-Type: message/rfc822\n\n" + deep
	}
	for name, c := range map[string]struct{ input, want string }{
		"empty":           {"", "no TLS report in it (RFC 8460): it is empty"},
		"spaces":          {" \n", "it is empty"},
		"text":            {"hello", "there is no TLS report"},
		"bytes":           {"\x00\x01\x02", "neither JSON nor gzip nor a mail"},
		"zip":             {"PK\x03\x04...", "zip"},
		"mail":            {"Subject: hello\n\nhello\n", "there is no TLS report"},
		"zip in a mail":   {attached("application/zip", "PK"), "zip file"},
		"other JSON":      {`{"a": 1}`, "there is no TLS report"},
		"number":          {`[1]`, "there is no TLS report"},
		"cut off":         {report(t)[:700], "ends in the middle"},
		"cut off gzip":    {packed(report(t))[:100], "ends in the middle"},
		"gzip's mark":     {"\x1f\x8b", "ends in the middle"},
		"not JSON":        {report(t, `"policies"`, `policies`), "no valid JSON"},
		"twice":           {report(t, `"contact-info"`, `"report-id"`), `it has "report-id" twice`},
		"twice inside":    {report(t, `"total-failure-session-count"`, `"total-successful-session-count"`), "twice"},
		"two reports":     {"[" + report(t) + "," + report(t) + "]", "several reports"},
		"negative":        {report(t, "5326", "-1"), `no number of sessions: "-1"`},
		"huge":            {report(t, "5326", "1e400"), `no number of sessions: "1e400"`},
		"too many":        {report(t, "5326", "9223372036854775807"), "no number of sessions"},
		"half a session":  {report(t, "5326", "0.5"), "no number of sessions"},
		"words":           {report(t, "5326", `"many"`), `no number of sessions: "many"`},
		"not a number":    {report(t, "5326", `"NaN"`), "no number of sessions"},
		"no time":         {report(t, `"start-datetime"`, `"begin"`), "date-range is missing or half"},
		"bad time":        {report(t, "2016-04-01T00:00:00Z", "yesterday"), `"yesterday" is no time`},
		"backwards":       {report(t, "2016-04-01T00:00:00Z", "2016-04-03T00:00:00Z"), "ends before it begins"},
		"far future":      {report(t, "2016-04-01T", "9999-04-01T"), "about the future"},
		"far past":        {report(t, "2016-04-01T", "0001-04-01T"), "no such reports yet"},
		"a long year":     {report(t, "2016-04-01T23", "2019-04-01T23"), "longer than a year"},
		"deep JSON":       {`{"report-id": "1", "x": ` + strings.Repeat("[", 1000), "nested too deep"},
		"deep policies":   {`{"report-id": "1", "policies": ` + strings.Repeat("[", 1000), "nested too deep"},
		"many keys":       {"{" + keys(1000) + `"report-id": "1"}`, "too many keys"},
		"many policies":   {`{"report-id": "1", "policies": [` + strings.Repeat("{},", mostPolicies) + "{}]}", "policies"},
		"many failures":   {`{"report-id": "1", "policies": [{"failure-details": [` + hosts(mostFailures+1) + "]}]}", "different failures"},
		"gzip bomb":       {packed(`{"report-id": "` + strings.Repeat("0", mostJSON) + `"}`), "too large"},
		"a long text":     {report(t, "5065427c", strings.Repeat(`\"`, mostRun)), "a text in it: it is too large"},
		"a long number":   {report(t, "5326", strings.Repeat("5", mostRun+1)), "a text in it: it is too large"},
		"spaces for ever": {packed(strings.Repeat(" ", mostJSON+1)), "white space"},
		"mail of 100 MB":  {"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("\n", mostMail), "too large"},
		"header":          {"A: " + strings.Repeat("b", mostHeader), "header of the mail: it is too large"},
		"many parts":      {"Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", mostParts+1), "parts"},
		"mails in mails":  {deep, "nested too deep"},
		"no boundary":     {"Content-Type: multipart/report\n\nx", "there is no TLS report"},
		"cut off mail":    {strings.TrimSuffix(attached("application/tlsrpt+json", "{"), "\n--b--\n"), "ends in the middle"},
		"bad base64":      {attached("application/tlsrpt+gzip\nContent-Transfer-Encoding: base64", "H4sIAAA="), "ends in the middle"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, err := Read(strings.NewReader(c.input))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%d reports, %v; want %q", len(list), err, c.want)
			}
		})
	}
}

func keys(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, `"k%d": 1,`, i)
	}
	return out.String()
}

func hosts(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"receiving-mx-hostname": "mx%d.example", "failed-session-count": 1}`, i)
	}
	return strings.Join(list, ",")
}

// A report says nothing that could change a terminal, or the direction of writing, and nothing long.
func TestForgedTexts(t *testing.T) {
	t.Parallel()
	evil := `\u001b]0;owned\u0007\u202egro.elpmaxe\n\r` + strings.Repeat("x", 10_000)
	list, err := Read(strings.NewReader(report(t, "Company-X", evil, "mx1.mail.company-y.example", evil, "X509_V_ERR", evil, "5065427c", evil)))
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	text, _ := json.Marshal(list)
	if strings.ContainsAny(string(text), "\x1b\u202e\n") || strings.Contains(string(text), `\u001b`) || strings.Contains(string(text), `\n`) || len(text) > 3000 {
		t.Errorf("%d bytes: %s", len(text), text)
	}
}

// Failures that differ only in the sender's address are one, also if there are very many.
func TestManySendingAddresses(t *testing.T) {
	t.Parallel()
	one := `{"result-type": "certificate-expired", "sending-mta-ip": "192.0.2.%d", "receiving-mx-hostname": "mx.example", "failed-session-count": 2},`
	var many strings.Builder
	for i := range 5 * mostFailures {
		fmt.Fprintf(&many, one, i%250)
	}
	list, err := Read(strings.NewReader(report(t, `"failure-details": [`, `"failure-details": [`+many.String())))
	if err != nil || len(list[0].Policies[0].Failures) != 4 || list[0].Policies[0].Failures[0].Sessions != 10*mostFailures {
		t.Errorf("%v, %v", err, list)
	}
}

// In an mbox, one broken mail does not hide the others, and the first fault is known.
func TestMailboxWithAFault(t *testing.T) {
	t.Parallel()
	good, bad := attached("application/tlsrpt+json", report(t)), attached("application/tlsrpt+json", "{")
	box := "From a\n" + bad + "\nFrom b\n" + good + "\nFrom c\nSubject: no body\nFrom d\n" + strings.Repeat("z", 200_000) + "\nFrom e\n\nFrom f\n" + good
	list, err := Read(strings.NewReader(box))
	if len(list) != 2 || !errors.Is(err, ErrCutOff) {
		t.Errorf("%d reports, %v", len(list), err)
	}
}

func FuzzReport(f *testing.F) {
	for _, file := range []string{"rfc8460.json", "microsoft.json", "odd.json", "rfc8460.json.gz"} {
		text, err := os.ReadFile("testdata/reports/" + file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"report-id":1,"date-range":[{"start-datetime":"2026-01-01","end-datetime":"2026-01-01"}],"policies":[[{}],{"summary":[]}]}`))
	f.Fuzz(checkRead)
}

func FuzzMail(f *testing.F) {
	for _, file := range []string{"google.eml", "mox.eml", "postfix.eml", "forwarded.eml", "single.eml", "box.mbox"} {
		text, err := os.ReadFile("testdata/reports/" + file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(checkRead)
}

// checkRead reads any input: what comes out is bounded, printable, and sums up without overflow.
func checkRead(t *testing.T, input []byte) {
	list, err := Read(bytes.NewReader(input))
	if err == nil && len(list) == 0 {
		t.Error("neither reports nor an error")
	}
	for _, r := range list {
		if r.Until.Before(r.From) || r.From.Year() < 2015 || r.Until.After(time.Now().Add(2*ahead)) || len(r.Policies) > mostPolicies {
			t.Errorf("from %s until %s, %d policies", r.From, r.Until, len(r.Policies))
		}
		for _, p := range r.Policies {
			for _, f := range p.Failures {
				if f.Sessions < 0 || p.Good < 0 || p.Bad < 0 || len(f.Reason+f.Host+f.Type) > 4*mostText {
					t.Errorf("%+v", p)
				}
			}
		}
	}
	unique := Unique(list)
	for _, s := range Senders(unique) {
		if s.Good < 0 || s.Bad < 0 {
			t.Errorf("%+v", s)
		}
	}
	for _, s := range Failures(unique) {
		if s.Sessions < 0 || s.Of < 0 || s.Last.Before(s.First) {
			t.Errorf("%+v", s)
		}
	}
}

// A small mailbox can unpack to more than fits into memory.
func TestMailboxOfMany(t *testing.T) {
	t.Parallel()
	var policies strings.Builder
	for i := range mostPolicies {
		fmt.Fprintf(&policies, `,{"policy":{"policy-domain":"%d.example"}}`, i)
	}
	report := fmt.Sprintf(`{"report-id":"x","date-range":{"start-datetime":"2026-01-01","end-datetime":"2026-01-02"},"policies":[%s]}`, policies.String()[1:])
	mail := "From a@example.org Thu Jan  1 00:00:00 2026\nContent-Type: application/tlsrpt+json\n\n" + report + "\n"
	reports, err := Read(strings.NewReader(strings.Repeat(mail, 200)))
	if want := mostKept/mostPolicies + 1; err == nil || len(reports) > want || len(reports) < want-2 {
		t.Errorf("%d reports: %v", len(reports), err)
	}
}

func TestNewest(t *testing.T) {
	t.Parallel()
	var list []Report
	for i := range 1000 {
		at := time.Date(2026, 1, 1, 0, i, 0, 0, time.UTC)
		list = Newest(append(list, Report{ID: fmt.Sprint(i), From: at, Until: at, Policies: []Policy{{Failures: make([]Failure, 8)}}}), 100)
		if len(list) > 20 {
			t.Fatalf("%d reports", len(list))
		}
	}
	if list[len(list)-1].ID != "999" || len(list) < 10 {
		t.Errorf("%d reports, the last is %s", len(list), list[len(list)-1].ID)
	}
}
