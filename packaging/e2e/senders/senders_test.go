package senders

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/smtpd"
)

type verdict struct{ Result, Action, Type, Reason string }

type finding struct{ ID, Severity, Message, Hint string }

// answer is what a script reads of verify --json.
type answer struct {
	OK    bool
	Hosts []struct {
		MX, Address string
		Port        int
		Verdicts    map[string]verdict
		Findings    []finding
	}
	Domains []struct {
		Domain, DNSSEC, Validator string
		STS                       struct{ ID, Mode string }
		Verdicts                  map[string]verdict
	}
	Commands []string
}

// verify runs verify --json, which must exit with code.
func (w *town) verify(code int, arguments string) (a answer) {
	w.t.Helper()
	r := w.sh("mxcert --json verify " + arguments)
	if err := json.Unmarshal([]byte(r.Stdout), &a); err != nil || r.Code != code || a.OK != (code == 0) {
		w.t.Errorf("verify %s: exit status %d, want %d (%v)\n%s%s", arguments, r.Code, code, err, r.Stdout, r.Stderr)
	}
	return a
}

// results are the results of verdicts in the order of reports.
func results(verdicts map[string]verdict) string {
	var words []string
	for _, kind := range []string{"opportunistic", "pkix", "dane", "mta_sts", "requiretls"} {
		words = append(words, verdicts[kind].Result)
	}
	return strings.Join(words, " ")
}

// What a sender of mail to example.org meets, and every exit code.
func TestVerifyDomain(t *testing.T) {
	w := newTown(t)
	const good = "pass pass pass pass pass"
	a := w.verify(0, "--domain example.org")
	if len(a.Domains) != 1 || len(a.Hosts) != 2 || a.Domains[0].DNSSEC != "secure" || a.Domains[0].Validator != "127.0.0.1" || a.Domains[0].STS.Mode != "enforce" ||
		results(a.Domains[0].Verdicts) != good || results(a.Hosts[0].Verdicts) != good || results(a.Hosts[1].Verdicts) != good {
		t.Errorf("a good domain: %+v", a)
	}
	for _, s := range w.SMTP {
		for _, session := range s.Sessions() {
			if last := session.Commands[len(session.Commands)-1]; session.TLS && last != "QUIT" || slices.ContainsFunc(session.Commands, func(line string) bool { return strings.HasPrefix(line, "MAIL") || strings.HasPrefix(line, "RCPT") }) {
				t.Errorf("a session: %q", session.Commands)
			}
		}
		if n := s.Count(); n < 1 || n > 4 {
			t.Errorf("%d connections to an address that is not ours", n)
		}
	}
	if a = w.verify(3, "--domain example.org --at +100d"); a.Hosts[0].Verdicts["pkix"].Type != "certificate-expired" || a.Hosts[0].Verdicts["dane"].Result != "fail" {
		t.Errorf("later: %+v", a)
	}
	w.verify(75, "--domain example.org --port 24 --timeout 20s")
	w.verify(0, "--host mx.example.org --for dane")
	w.verify(0, "--domain example.org --roots "+w.roots)

	nobody := w.sh("mxcert verify --domain nosuch.example")
	if nobody.Code != 3 || !strings.Contains(nobody.Stdout+nobody.Stderr, "nosuch.example") || !strings.Contains(nobody.Stdout+nobody.Stderr, "does not exist") {
		t.Errorf("no such domain: %+v", nobody)
	}
	w.check(w.DNS.Edit(t.Context(), w.zone("3 1 1 "+strings.Repeat("00", 32))))
	a = w.verify(3, "--domain example.org --for dane")
	if results(a.Domains[0].Verdicts) != "pass pass fail pass pass" || a.Domains[0].Verdicts["dane"].Action != "skip" {
		t.Errorf("a wrong TLSA record: %+v", a)
	}
	w.verify(0, "--domain example.org --for mta_sts,pkix")
	for _, s := range w.SMTP {
		s.SetFaults(smtpd.Faults{NoStartTLS: true})
	}
	if a = w.verify(3, "--domain example.org"); results(a.Domains[0].Verdicts) != "fail fail fail fail fail" || a.Hosts[0].Verdicts["opportunistic"].Action != "clear-text" {
		t.Errorf("no STARTTLS: %+v", a)
	}
	if r := w.sh("mxcert verify --domain example.org --resolver 192.0.2.99 --timeout 20s"); r.Code != 75 {
		t.Errorf("a resolver that is none: %+v", r)
	}
}

// documented finds commands that start a line of an indented or fenced text.
var documented = regexp.MustCompile(`(?m)^[ \t]*(?:# +)?(?:sudo )?(mxcert verify --[^#\n]*)`)

// Every command of the documentation works as it is written.
func TestDocumentedCommands(t *testing.T) {
	w := newTown(t)
	seen := 0
	for _, file := range []string{"README.md", "packaging/man/mxcert.7.md", "packaging/man/mxcert-senders.7.md", "configs/mxcert.yaml"} {
		text, err := os.ReadFile("../../../" + file)
		w.check(err)
		for _, match := range documented.FindAllStringSubmatch(string(text), -1) {
			seen++
			line := strings.TrimSpace(match[1])
			if r := w.sh(line); r.Code != 0 || r.Stdout == "" {
				t.Errorf("%s: %s: exit status %d\n%s%s", file, line, r.Code, r.Stdout, r.Stderr)
			}
		}
	}
	if seen < 8 {
		t.Errorf("only %d commands are documented", seen)
	}
	page, err := os.ReadFile("../../man/mxcert-senders.7.md")
	w.check(err)
	if shown := w.sh("mxcert verify --domain example.org").Stdout; !strings.Contains(lasting(string(page)), lasting(shown)) {
		t.Errorf("mxcert-senders(7) shows something else than:\n%s", shown)
	}
}

// passing matches what differs each time.
var passing = regexp.MustCompile(`(?:serial|until) [0-9a-zA-Z:-]+`)

// lasting returns a text without what differs each time, on one line.
func lasting(text string) string {
	return strings.Join(strings.Fields(passing.ReplaceAllString(text, "")), " ")
}

// Every command of other tools works as it is printed, and says what the verdict says.
func TestCommandsOfOtherTools(t *testing.T) {
	w := newTown(t)
	w.serveTunnel()
	for _, arguments := range []string{"--domain example.org --openssl", "--domain example.org --openssl --resolver tls://dns.example.org@127.0.0.1 --roots " + w.roots, "--domain example.org --openssl --resolver 127.0.0.1 --roots " + w.roots + " --at +1d"} {
		a := w.verify(0, arguments)
		said := map[string]string{}
		for _, line := range a.Commands {
			r := w.sh(line)
			if r.Code != 0 {
				t.Errorf("%s: exit status %d\n%s%s", line, r.Code, r.Stdout, r.Stderr)
			}
			said[strings.Fields(line)[0]] += r.Stdout + r.Stderr
		}
		for tool, words := range map[string][]string{
			"dig":     {"mx.example.org.", "TLSA", "v=STSv1", "flags: qr rd ra ad"},
			"curl":    {"mode: enforce"},
			"openssl": {"Verification: OK", "DANE TLSA 3 1 1"},
		} {
			for _, word := range words {
				if !strings.Contains(said[tool], word) {
					t.Errorf("%s: %s does not say %q:\n%s", arguments, tool, word, said[tool])
				}
			}
		}
	}
	w.check(w.DNS.Edit(t.Context(), w.zone("3 1 1 "+strings.Repeat("00", 32))))
	failed := 0
	for _, line := range w.verify(3, "--domain example.org --openssl").Commands {
		if strings.Contains(line, "-dane_tlsa_rrdata") && w.sh(line).Code != 0 {
			failed++
		}
	}
	if failed != 2 {
		t.Errorf("openssl fails at %d of 2 addresses", failed)
	}
}
