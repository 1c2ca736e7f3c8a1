package setup

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// closed is the directory of a CA that cannot be reached.
const closed = "https://127.0.0.1:1/directory"

// script answers questions by how they begin: each answer of a list once, then the suggestion.
type script struct {
	t       *testing.T
	answers map[string][]string
	asked   []string
	hidden  []string // questions whose answer is not echoed
	said    strings.Builder
}

func (s *script) person() *Person {
	return &Person{Ask: s.ask, Say: func(format string, values ...any) { fmt.Fprintf(&s.said, format+"\n", values...) }}
}

func (s *script) ask(q Question) (string, error) {
	s.asked = append(s.asked, q.Text)
	if q.Secret {
		s.hidden = append(s.hidden, q.Text)
	}
	for beginning, list := range s.answers {
		if strings.HasPrefix(q.Text, beginning) && len(list) > 0 {
			s.answers[beginning] = list[1:]
			if list[0] == "EOF" {
				return "", io.EOF
			}
			return list[0], nil
		}
	}
	return "", nil
}

// says checks what the person was told.
func (s *script) says(words ...string) {
	s.t.Helper()
	for _, word := range words {
		if !strings.Contains(s.said.String(), word) {
			s.t.Errorf("not said: %q\n%s", word, s.said.String())
		}
	}
}

func eximServer(pairs []deploy.Pair) Server {
	return Server{Kind: exim, Unit: "exim4.service", Pairs: pairs, exim: discover.EximSetup{Pairs: pairs, User: "Debian-exim"}}
}

// eximHost is a host whose Exim reads a pair of files.
func eximHost(pairs []deploy.Pair) Host {
	return Host{Names: []string{"mx.example.org", "host7.example.org"}, Servers: []Server{eximServer(pairs)}}
}

// given are the answers that no host can know.
func given() Answers {
	return Answers{Agreed: true, Directory: "letsencrypt", Provider: "rfc2136", Resolvers: []string{"127.0.0.1:9"},
		Env: map[string]string{"DNSUPDATE_TSIG_KEY": "mxcert.", "DNSUPDATE_TSIG_SECRET": "c2VjcmV0"}}
}

// Without questions, the answers come from flags, then from the host, then from what is usual.
func TestCompleteWithoutQuestions(t *testing.T) {
	directory := t.TempDir()
	usual := onePair(filepath.Join(directory, "exim.crt"), filepath.Join(directory, "exim.key"))
	for _, tt := range []struct {
		what  string
		host  Host
		flags func(*Answers)
		check func(Answers) bool
	}{
		{"names of the host", eximHost(usual), nil, func(a Answers) bool { return slices.Equal(a.Domains, []string{"mx.example.org", "host7.example.org"}) }},
		{"names by a flag", eximHost(usual), func(a *Answers) { a.Domains = []string{"a.example.org"} }, func(a Answers) bool { return slices.Equal(a.Domains, []string{"a.example.org"}) }},
		{"the paths that Exim reads", eximHost(usual), nil, func(a Answers) bool {
			return slices.Equal(a.Targets[0].Pairs, usual) && a.Targets[0].Unit == "exim4.service" && a.Targets[0].Group != ""
		}},
		{"one file that Exim reads", eximHost(onePair(directory+"/x.pem", directory+"/x.pem")), nil, func(a Answers) bool { return a.Targets[0].Pairs[0].Key == directory+"/x.pem" }},
		{"Exim has no certificate", eximHost(nil), nil, func(a Answers) bool {
			return slices.Equal(a.Targets[0].Pairs, onePair("/var/lib/mxcert-keys/mx.crt", "/var/lib/mxcert-keys/mx.key")) && a.Targets[0].Group == ""
		}},
		{"a path by a flag", eximHost(usual), func(a *Answers) { a.Certificate = "/srv/a.pem" }, func(a Answers) bool { return slices.Equal(a.Targets[0].Pairs, onePair("/srv/a.pem", "/srv/a.key")) }},
		{"another unit", eximHost(usual), func(a *Answers) { a.Unit = "exim.service" }, func(a Answers) bool { return a.Targets[0].Unit == "exim.service" }},
		{"none", eximHost(usual), func(a *Answers) { a.MailServers = []string{none} }, func(a Answers) bool { return len(a.Targets) == 0 }},
		{"no mail server", Host{Names: []string{"mx.example.org"}}, nil, func(a Answers) bool {
			return a.Targets[0].Kind == files && slices.Equal(a.Targets[0].Pairs, onePair("/var/lib/mxcert-keys/mx.crt", "/var/lib/mxcert-keys/mx.key"))
		}},
		{"no address for the CA", eximHost(usual), nil, func(a Answers) bool { return a.Email == "" }},
		{"the CA", eximHost(usual), func(a *Answers) { a.Directory = "" }, func(a Answers) bool { return a.Directory == "letsencrypt" }},
		{"the staging CA", eximHost(usual), func(a *Answers) { a.Directory = "staging" }, func(a Answers) bool { return a.Directory == "letsencrypt-staging" }},
		{"two servers that a flag names", Host{Names: []string{"mx.example.org"}}, func(a *Answers) { a.MailServers = []string{postfix, dovecot} }, func(a Answers) bool {
			return len(a.Targets) == 2 && a.Targets[0].Unit == "postfix.service" && a.Targets[1].Unit == "dovecot.service" && a.Endpoints == nil
		}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			a := given()
			if tt.flags != nil {
				tt.flags(&a)
			}
			if err := a.Complete(t.Context(), tt.host, nil); err != nil || !tt.check(a) {
				t.Errorf("got %+v, %v", a, err)
			}
		})
	}
}

// What is missing is named all at once, each with its flag, as wrong usage.
func TestCompleteNamesWhatIsMissing(t *testing.T) {
	for _, tt := range []struct {
		what    string
		answers Answers
		want    []string
	}{
		{"everything", Answers{Directory: closed}, []string{"--domain", "--agree-tos", "--dns-env"}},
		{"a credential", Answers{Agreed: true, Provider: "cloudflare", Domains: []string{"a.example.org"}, MailServers: []string{none}}, []string{"CF_DNS_API_TOKEN"}},
		{"half of a credential", Answers{Agreed: true, Provider: "rfc2136", Env: map[string]string{"DNSUPDATE_TSIG_KEY": "k."}, Domains: []string{"a.example.org"}, MailServers: []string{none}}, []string{"needs DNSUPDATE_TSIG_SECRET"}},
		{"a binding", Answers{Agreed: true, Directory: "zerossl", CAFile: os.DevNull}, []string{"--ca-file"}},
		{"a mail server that does not exist", Answers{MailServers: []string{"sendmail"}}, []string{"--mta: mxcert knows exim"}},
		{"several wrong flags", Answers{Email: "nobody", Domains: []string{"a.example.org", "?"}, Directory: "letsencrpyt"}, []string{"--email: \"nobody\": this is not a mail address", "--domain", "--directory"}},
		{"a path for two servers", Answers{Agreed: true, Provider: "exec", Env: map[string]string{"EXEC_PATH": "/bin/true"}, Domains: []string{"a.example.org"}, MailServers: []string{postfix, dovecot}, Certificate: "/x"}, []string{"--mta"}},
		{"a provider that does not exist", Answers{Agreed: true, Provider: "rfc2137", Domains: []string{"a.example.org"}, MailServers: []string{none}}, []string{`did you mean "rfc2136"`}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			err := tt.answers.Complete(t.Context(), Host{}, nil)
			if err == nil || report.CodeOf(err) != report.CodeUsage {
				t.Fatalf("got %v", err)
			}
			for _, word := range tt.want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is not in: %v", word, err)
				}
			}
			if got := strings.Count(err.Error(), "\n") + 1; got != len(tt.want) {
				t.Errorf("%d complaints, want %d: %v", got, len(tt.want), err)
			}
		})
	}
}

// A person is asked for what the flags do not say, and is offered what was found. Wrong answers are refused at once, with the reason: rows
// (a) to (g) of wrong answers.
func TestCompleteByQuestions(t *testing.T) {
	l := lab.New(t, lab.Options{})
	secret := l.Secret()
	s := &script{t: t, answers: map[string][]string{
		"names":    {"?", "mx", "mx.example.org host7.example.org"},
		"CA":       {"letsencrpyt", l.CA.DirectoryURL()},
		"file":     {"/no/such/file", l.Path("ca.pem")},
		"mail add": {"nobody", "me@example.net"}, "have you": {"maybe", "?", "yes"},
		"DNS provider": {"?", "bind", "rfc2136"}, "which": {"3", "1"},
		"DNSUPDATE_TSIG_KEY": {"mxcert.", "mxcert."}, "DNSUPDATE_TSIG_SECRET": {"no base64 !", secret}, "DNSUPDATE_NAMESERVER": {l.Primary.Address(), l.Primary.Address()},
		"path of the certificate": {"mx.crt", ""},
	}}
	a := Answers{Resolvers: []string{l.Primary.Address()}}
	if err := a.Complete(t.Context(), Host{}, s.person()); err != nil {
		t.Fatalf("%v\n%s", err, s.said.String())
	}
	if !slices.Equal(a.Domains, []string{"mx.example.org", "host7.example.org"}) || a.Email != "me@example.net" || !a.Agreed || a.Provider != "rfc2136" || a.Directory != l.CA.DirectoryURL() || a.Targets[0].Pairs[0].Key != "/var/lib/mxcert-keys/mx.key" {
		t.Errorf("got %+v", a)
	}
	if want := map[string]string{"DNSUPDATE_TSIG_KEY": "mxcert.", "DNSUPDATE_TSIG_SECRET": secret, "DNSUPDATE_NAMESERVER": l.Primary.Address()}; !maps.Equal(a.Env, want) {
		t.Errorf("variables %v, want %v", a.Env, want)
	}
	s.says("the names by which senders", "single label", `did you mean "letsencrypt"`, "no such file", "this is not a mail address", "answer yes or no", "certbot-hook run a script",
		"there is no DNS provider", "answer a number from 1 to 2", "base64", "created a test record at _acme-challenge.mx.example.org", "the DNS provider works", "begins with /")
	if !slices.ContainsFunc(s.asked, func(q string) bool {
		return strings.HasPrefix(q, "have you read the terms of service of") && strings.Contains(q, "https://") || strings.Contains(q, "data:")
	}) {
		t.Errorf("no URL of the terms: %q", s.asked)
	}
	if len(s.hidden) != 2 || !strings.HasPrefix(s.hidden[0], "DNSUPDATE_TSIG_SECRET") || strings.Contains(s.said.String(), secret) {
		t.Errorf("hidden answers: %q", s.hidden)
	}
}

// What a flag has said is not asked; of the names a person always sees what was found.
func TestCompleteAsksOnce(t *testing.T) {
	s := &script{t: t, answers: map[string][]string{"try it now": {"no"}}}
	a := given()
	a.Directory, a.Email, a.Env = closed, "me@example.org", map[string]string{"DNSUPDATE_TSIG_KEY": "k.", "DNSUPDATE_TSIG_SECRET": "c2VjcmV0"}
	if err := a.Complete(t.Context(), eximHost(nil), s.person()); err != nil {
		t.Fatal(err)
	}
	if len(s.asked) != 2 || !strings.HasPrefix(s.asked[0], "names") || !strings.HasPrefix(s.asked[1], "try it now") {
		t.Errorf("asked %q", s.asked)
	}
	s.says("the CA 127.0.0.1:1 cannot be reached")
}

// Cloudflare has several ways to identify a person: the chosen one is asked for, and its secrets are hidden.
func TestCompleteChoosesCredentials(t *testing.T) {
	s := &script{t: t, answers: map[string][]string{"which": {"3"}, "CF_API_EMAIL": {"me@example.net"}, "CF_API_KEY": {"", "very-secret"}, "try": {"no"}}}
	a := given()
	a.Provider, a.Env, a.Directory = "cloudflare", nil, closed
	if err := a.Complete(t.Context(), eximHost(nil), s.person()); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"CF_API_EMAIL": "me@example.net", "CF_API_KEY": "very-secret"}; !maps.Equal(a.Env, want) {
		t.Errorf("variables %v", a.Env)
	}
	s.says("1  an API token", "3  the account's mail address", "an answer is needed")
	if !slices.ContainsFunc(s.hidden, func(q string) bool { return strings.HasPrefix(q, "CF_API_KEY") }) {
		t.Errorf("hidden: %q", s.hidden)
	}
}

// A secret that is in the directory of credentials is offered, and used where it is; without questions only one that has the usual name.
func TestCompleteOffersCredentials(t *testing.T) {
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "tsig"), []byte("c2VjcmV0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for answer, want := range map[string]string{"": "cred:tsig", "cred:tsig": "cred:tsig", "cred:nosuch": "", "cred:../tsig": ""} {
		s := &script{t: t, answers: map[string][]string{"DNSUPDATE_TSIG_SECRET": {answer, "EOF"}, "DNSUPDATE_TSIG_KEY": {"k."}, "try": {"no"}}}
		a := given()
		a.Env, a.Credentials, a.Directory = nil, directory, closed
		err := a.Complete(t.Context(), eximHost(nil), s.person())
		if a.Env["DNSUPDATE_TSIG_SECRET"] != want || (err == nil) != (want != "") {
			t.Errorf("%q: %v, %v", answer, a.Env, err)
		}
		if err == nil {
			if secrets, err := a.moveSecrets(); err != nil || len(secrets) != 0 {
				t.Errorf("copied: %v, %v", secrets, err)
			}
		}
	}
	if err := os.Rename(filepath.Join(directory, "tsig"), filepath.Join(directory, "dnsupdate_tsig_secret")); err != nil {
		t.Fatal(err)
	}
	a := given()
	a.Env, a.Credentials = map[string]string{"DNSUPDATE_TSIG_KEY": "k."}, directory
	if err := a.Complete(t.Context(), eximHost(nil), nil); err != nil || a.Env["DNSUPDATE_TSIG_SECRET"] != "cred:dnsupdate_tsig_secret" {
		t.Errorf("%v, %v", a.Env, err)
	}
}

// If the test fails, the reason is said, and the questions come again.
func TestCompleteTestsDNS(t *testing.T) {
	l := lab.New(t, lab.Options{})
	wrong := strings.Repeat("A", 43) + "="
	s := &script{t: t, answers: map[string][]string{"DNSUPDATE_TSIG_KEY": {"mxcert.", "mxcert."}, "DNSUPDATE_TSIG_SECRET": {wrong, l.Secret()}, "DNSUPDATE_NAMESERVER": {l.Primary.Address(), l.Primary.Address()}}}
	a := given()
	a.Env, a.Directory, a.Resolvers = nil, closed, []string{l.Primary.Address()}
	host := eximHost(nil)
	if err := a.Complete(t.Context(), host, s.person()); err != nil || a.Env["DNSUPDATE_TSIG_SECRET"] != l.Secret() {
		t.Fatalf("%v\n%s", err, s.said.String())
	}
	s.says("the test failed", "the DNS provider works")
	if n := len(slices.DeleteFunc(slices.Clone(s.asked), func(q string) bool { return !strings.HasPrefix(q, "keep these settings") })); n != 1 {
		t.Errorf("asked %q", s.asked)
	}
	kept := &script{t: t, answers: map[string][]string{"keep": {"yes"}}}
	a.Env["DNSUPDATE_TSIG_SECRET"] = wrong
	if err := a.Complete(t.Context(), host, kept.person()); err != nil || a.Env["DNSUPDATE_TSIG_SECRET"] != wrong {
		t.Errorf("%v, %v", a.Env, err)
	}
}

// A CA that takes only accounts with a binding: both parts are asked for, and the key is hidden.
func TestCompleteBinding(t *testing.T) {
	a := given()
	a.Directory = "zerossl"
	c := &completion{Answers: &a, ctx: t.Context()}
	s := &script{t: t, answers: map[string][]string{"key identifier": {"kid-1"}, "MAC key": {"bWFj"}}}
	c.person = s.person()
	c.binding(ca{name: "acme.zerossl.com", bound: true})
	if a.EABKeyID != "kid-1" || a.EABKey != "bWFj" || len(s.hidden) != 1 || c.stopped != nil {
		t.Errorf("%+v, %q, %v", a, s.hidden, c.stopped)
	}
}

// The input may end at each question: the error says where, and that nothing was written.
func TestCompleteEnds(t *testing.T) {
	questions := []string{"names", "CA", "mail address", "have you", "DNS provider", "which", "DNSUPDATE_TSIG_KEY", "DNSUPDATE_TSIG_SECRET", "DNSUPDATE_NAMESERVER", "try", "mail server"}
	for _, last := range questions {
		s := &script{t: t, answers: map[string][]string{"CA": {closed}, "have you": {"yes"}, "DNSUPDATE_TSIG_KEY": {"k."}, "DNSUPDATE_TSIG_SECRET": {"c2VjcmV0"}, "DNSUPDATE_NAMESERVER": {"127.0.0.1:9"}, "try": {"no"}}}
		s.answers[last] = []string{"EOF"}
		a := Answers{Resolvers: []string{"127.0.0.1:9"}}
		err := a.Complete(t.Context(), Host{Names: []string{"mx.example.org"}}, s.person())
		if report.CodeOf(err) != report.CodeUsage || !errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "nothing was written") || !strings.HasPrefix(s.asked[len(s.asked)-1], last) {
			t.Errorf("%s: %v; asked %q", last, err, s.asked)
		}
	}
}

// A person who never gives a usable answer is not asked for ever, and who does not agree to the terms gets no configuration.
func TestCompleteGivesUp(t *testing.T) {
	s := &script{t: t, answers: map[string][]string{"mail address": slices.Repeat([]string{"nobody"}, 20)}}
	a := given()
	a.Directory = closed
	if err := a.Complete(t.Context(), eximHost(nil), s.person()); report.CodeOf(err) != report.CodeUsage || !strings.Contains(err.Error(), "in 5 attempts") || len(s.asked) != 6 {
		t.Errorf("%v, asked %q", err, s.asked)
	}
	s = &script{t: t, answers: map[string][]string{"have you": {"no"}}}
	a = given()
	a.Agreed, a.Directory = false, closed
	if err := a.Complete(t.Context(), eximHost(nil), s.person()); report.CodeOf(err) != report.CodeUsage || !strings.Contains(err.Error(), "agree to its terms; nothing was written") {
		t.Errorf("got %v", err)
	}
	if last := s.asked[len(s.asked)-1]; !strings.HasPrefix(last, "have you") {
		t.Errorf("asked on: %q", s.asked)
	}
}
