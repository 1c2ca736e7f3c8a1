package cli

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/smtpd"

	"mxcert/cmd/mxcert/internal/report"
)

// Whoever owns a domain and its mail server writes no command to a terminal and none into a shell: neither with names, nor with TXT records,
// nor with what the server says.
func TestVerifyHostileDomain(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	const evil = "`reboot`|$x&.example.org"
	const bytes = `\027[31m\226\128\174\007.example.org`
	s.check(s.World.Replace("example.org. MX 10 " + evil + "."))
	s.check(s.World.Add("example.org. MX 20 "+bytes+".", "example.org. MX 30 `missing`.example.org.", evil+". A 127.0.0.1", bytes+". A 127.0.0.1",
		`_mta-sts.example.org. TXT "v=STSv1; id=\027[31m\226\128\174;"`))
	const say = "\x1b]0;owned\x07\u202e\u009b31m`reboot`"
	for _, faults := range []smtpd.Faults{
		{},
		{Replies: map[smtpd.Step]string{smtpd.Greeting: "220 " + say + ".example.org\r\n", smtpd.EHLO: "250-" + say + ".example.org " + say + "\r\n250-" + say + "\r\n250 STARTTLS\r\n"}},
		{Replies: map[smtpd.Step]string{smtpd.Greeting: "554 " + say + "\r\n"}},
		{Inject: say},
		{DropAt: smtpd.Handshake}, // commands of openssl say more
	} {
		s.SMTP.SetFaults(faults)
		for _, flags := range [][]string{{"--openssl"}, {"--openssl", "--json"}} {
			got := runAlone(append(append([]string{"verify", "--domain", "example.org"}, flags...), s.flags...)...)
			if list := obeyed(got.stdout + got.stderr); len(list) > 0 || got.code != report.CodeFault {
				t.Errorf("exit code %d, prints %q:\n%q", got.code, list, got.stdout)
			}
			if len(flags) < 2 {
				continue
			}
			var r verifyReport
			s.check(json.Unmarshal([]byte(got.stdout), &r))
			commands := r.Commands
			for _, h := range r.Hosts {
				for _, f := range h.Findings {
					commands = append(commands, f.Hint)
				}
			}
			for _, d := range r.Domains {
				for _, f := range d.Findings {
					commands = append(commands, f.Hint)
				}
			}
			quoted := regexp.MustCompile(`'[^']*'`)
			for _, command := range commands {
				if strings.ContainsAny(quoted.ReplaceAllString(command, ""), "`|$&") {
					t.Errorf("a shell obeys a part of: %s", command)
				}
			}
		}
	}
}
