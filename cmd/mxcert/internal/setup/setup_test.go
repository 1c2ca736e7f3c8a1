package setup

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// scripted answers questions in turn by the first line whose beginning matches, and keeps the questions.
type scripted struct {
	answers map[string]string // by how the question begins
	asked   []string
}

func (s *scripted) ask(question, suggestion string) string {
	s.asked = append(s.asked, question)
	for beginning, answer := range s.answers {
		if strings.HasPrefix(question, beginning) {
			return answer
		}
	}
	return suggestion
}

// eximHost is a host whose Exim reads a pair of files.
func eximHost(pair deploy.Pair) Host {
	return Host{Names: []string{"mx.example.org", "host7.example.org"}, MailServer: exim, Exim: discover.EximSetup{Pair: pair}}
}

// given are the answers that no host can know.
func given() Answers {
	return Answers{Agreed: true, Directory: "letsencrypt", Provider: "rfc2136"}
}

// Without questions, the answers come from flags, then from the host, then from what is usual.
func TestCompleteWithoutQuestions(t *testing.T) {
	usual := deploy.Pair{Certificate: "/etc/exim4/exim.crt", Key: "/etc/exim4/exim.key"}
	for _, tt := range []struct {
		what  string
		host  Host
		flags func(*Answers)
		check func(Answers) bool
	}{
		{"names of the host", eximHost(usual), nil, func(a Answers) bool { return slices.Equal(a.Domains, []string{"mx.example.org", "host7.example.org"}) }},
		{"names by a flag", eximHost(usual), func(a *Answers) { a.Domains = []string{"a.example.org"} }, func(a Answers) bool { return slices.Equal(a.Domains, []string{"a.example.org"}) }},
		{"the paths that Exim reads", eximHost(usual), nil, func(a Answers) bool {
			return a.Certificate == usual.Certificate && a.Key == usual.Key && a.Unit == "exim4.service"
		}},
		{"one file that Exim reads", eximHost(deploy.Pair{Certificate: "/x.pem", Key: "/x.pem"}), nil, func(a Answers) bool { return a.Certificate == "/x.pem" && a.Key == "/x.pem" }},
		{"Exim has no certificate", eximHost(deploy.Pair{}), nil, func(a Answers) bool {
			return a.Certificate == "/var/lib/mxcert-keys/mx.crt" && a.Key == "/var/lib/mxcert-keys/mx.key"
		}},
		{"a path by a flag", eximHost(usual), func(a *Answers) { a.Certificate = "/srv/a.pem" }, func(a Answers) bool { return a.Certificate == "/srv/a.pem" && a.Key == "/srv/a.key" }},
		{"another unit", eximHost(usual), func(a *Answers) { a.Unit = "exim.service" }, func(a Answers) bool { return a.Unit == "exim.service" }},
		{"no mail server", eximHost(usual), func(a *Answers) { a.MailServer = none }, func(a Answers) bool { return a.Certificate == "" && a.Unit == "" }},
		{"no address for the CA", eximHost(usual), nil, func(a Answers) bool { return a.Email == "" }},
	} {
		t.Run(tt.what, func(t *testing.T) {
			a := given()
			if tt.flags != nil {
				tt.flags(&a)
			}
			if err := a.Complete(tt.host, nil); err != nil || !tt.check(a) {
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
		{"everything", Answers{}, []string{"--domain", "--agree-tos", "--dns-provider", "--mta"}},
		{"the paths", Answers{Agreed: true, Provider: "exec", Domains: []string{"a.example.org"}, MailServer: files}, []string{"--certificate", "--private-key"}},
		{"a mail server that does not exist", Answers{Agreed: true, Provider: "exec", Domains: []string{"a.example.org"}, MailServer: "sendmail"}, []string{"--mta"}},
		{"a provider that does not exist", Answers{Agreed: true, Provider: "rfc2137", Domains: []string{"a.example.org"}, MailServer: none}, []string{"rfc2137", `did you mean "rfc2136"`}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			err := tt.answers.Complete(Host{}, nil)
			if err == nil || report.CodeOf(err) != report.CodeUsage {
				t.Fatalf("got %v", err)
			}
			for _, word := range tt.want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is not in: %v", word, err)
				}
			}
			if got := strings.Count(err.Error(), "\n") + 1; tt.what != "a provider that does not exist" && got != len(tt.want) {
				t.Errorf("%d complaints, want %d: %v", got, len(tt.want), err)
			}
		})
	}
}

// A person is asked for what the flags do not say, and is offered what was found.
func TestCompleteByQuestions(t *testing.T) {
	s := &scripted{answers: map[string]string{"names": "a.example.org b.example.org", "address": "me@example.org", "have you": "Yes", "DNSUPDATE_TSIG_KEY": "mxcert.", "DNSUPDATE_TSIG_SECRET": "word"}}
	a := Answers{Directory: "letsencrypt"}
	if err := a.Complete(Host{}, s.ask); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.Domains, []string{"a.example.org", "b.example.org"}) || a.Email != "me@example.org" || !a.Agreed || a.Provider != "rfc2136" || a.MailServer != files || a.Key != "/var/lib/mxcert-keys/mx.key" {
		t.Errorf("got %+v", a)
	}
	if want := map[string]string{"DNSUPDATE_TSIG_KEY": "mxcert.", "DNSUPDATE_TSIG_SECRET": "word"}; !maps.Equal(a.Env, want) {
		t.Errorf("variables %v, want %v", a.Env, want)
	}
	for _, beginning := range []string{"names", "address", "have you read the terms of service of letsencrypt", "DNS provider", "DNSUPDATE_TSIG_KEY (", "DNSUPDATE_TSIG_SECRET (", "mail server", "path of the certificate", "path of its key"} {
		if len(s.asked) == 0 || !strings.HasPrefix(s.asked[0], beginning) {
			t.Fatalf("asked %q, want %q next", s.asked, beginning)
		}
		s.asked = s.asked[1:]
	}
	if len(s.asked) > 0 {
		t.Errorf("asked too: %q", s.asked)
	}
}

// What a flag has said is not asked; of the names a person always sees what was found.
func TestCompleteAsksOnce(t *testing.T) {
	s := &scripted{}
	a := given()
	a.Email, a.Env = "me@example.org", map[string]string{"DNSUPDATE_TSIG_KEY_FILE": "/k", "DNSUPDATE_TSIG_SECRET": "word"}
	if err := a.Complete(eximHost(deploy.Pair{}), s.ask); err != nil {
		t.Fatal(err)
	}
	if len(s.asked) != 1 || !strings.HasPrefix(s.asked[0], "names") {
		t.Errorf("asked %q", s.asked)
	}
}

func TestYes(t *testing.T) {
	for answer, want := range map[string]bool{"yes": true, "Y": true, "no": false, "": false, "maybe": false} {
		if Yes(answer) != want {
			t.Errorf("%q: %v", answer, !want)
		}
	}
}

// Somebody who does not agree to the terms gets no configuration.
func TestCompleteWithoutAgreement(t *testing.T) {
	a := given()
	a.Agreed = false
	s := &scripted{answers: map[string]string{"have you": "no"}}
	err := a.Complete(eximHost(deploy.Pair{}), s.ask)
	if exit, ok := errors.AsType[*report.Exit](err); !ok || exit.Code != report.CodeUsage || !strings.Contains(err.Error(), "--agree-tos") {
		t.Errorf("got %v", err)
	}
}
