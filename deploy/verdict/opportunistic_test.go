package verdict

import (
	"net/netip"
	"testing"

	"mxcert/acme/resolve"
	"mxcert/deploy/starttls"
)

func greets(text string) edit { return func(f *Facts) { f.Handshakes[0].Shown.Greeting = text } }

func old(f *Facts) { f.Handshakes[0].Shown.Version = 0x0301 }

func noAddress(answers ...resolve.Answer) edit {
	return func(f *Facts) { f.Address, f.Addresses, f.Handshakes, f.Bases = netip.Addr{}, answers, nil, nil }
}

var (
	noA    = answer("mx.example.org", "A", resolve.Secure)
	noAAAA = answer("mx.example.org", "AAAA", resolve.Secure)
)

func TestOpportunistic(t *testing.T) {
	checkRows(t, Opportunistic, []row{
		{"encrypts", nil, "pass deliver", nil},
		{"self-signed", []edit{serves(server("ecdsa", nil))}, "pass deliver", nil},
		{"expired", []edit{serves(server("ecdsa", inter, until(now.Add(-day))))}, "pass deliver", nil},
		{"only without SNI", []edit{func(f *Facts) { f.Handshakes = []Handshake{handshake("", starttls.Any, good)} }}, "pass deliver", nil},
		{"another name only", []edit{func(f *Facts) { f.Handshakes = []Handshake{handshake("www.example.org", starttls.Any, good)} }}, "pass deliver", nil},
		{"no text in the greeting", []edit{greets("")}, "pass deliver", []string{"senders-differ: Postfix takes the server for a Cisco PIX, does not ask for TLS, and sends the mail in the clear"}},
		{"asterisks in the greeting", []edit{greets("****200**")}, "pass deliver", []string{"senders-differ: Cisco PIX"}},
		{"no text in the greeting, and no STARTTLS", []edit{greets(""), fails("no STARTTLS")}, "fail clear-text starttls-not-supported", nil},
		{"no greeting in TLS from the first byte", []edit{greets(""), func(f *Facts) { f.Port = 465 }}, "pass deliver", nil},
		{"old TLS", []edit{old}, "pass deliver", []string{"senders-differ: Postfix and Exim still encrypt, mox"}},
		{"no forward secrecy", []edit{staticRSA}, "pass deliver", []string{"senders-differ: Exim with GnuTLS and mox do no TLS", "senders-differ: allow ECDHE"}},
		{"no STARTTLS", []edit{fails("no STARTTLS")}, "fail clear-text starttls-not-supported", nil},
		{"502", []edit{fails("502")}, "fail clear-text starttls-not-supported", nil},
		{"454", []edit{fails("454")}, "fail clear-text starttls-not-supported", nil},
		{"421 to STARTTLS", []edit{fails("421 to STARTTLS")}, "fail clear-text starttls-not-supported", nil},
		{"injection", []edit{fails("injection")}, "fail clear-text validation-failure", []string{"senders-differ: Postfix drops them and encrypts"}},
		{"TLS error", []edit{fails("TLS error")}, "fail clear-text validation-failure", []string{"senders-differ: Postfix first waits"}},
		{"TLS lost", []edit{fails("TLS lost")}, "?", []string{"not-judged: during the TLS handshake"}},
		{"TLS lost with one key type", []edit{func(f *Facts) {
			h := failures["TLS lost"]
			h.Ask = starttls.RSA
			f.Handshakes = append(f.Handshakes, h)
		}}, "pass deliver", []string{"-not-judged"}},
		{"no version", []edit{fails("no version")}, "fail clear-text validation-failure", []string{"senders-differ: may encrypt"}},
		{"no key type of ours", []edit{fails("no RSA", "no ECDSA")}, "?", []string{"not-judged: openssl s_client -starttls smtp -connect 192.0.2.1:25 -servername mx.example.org"}},
		{"nothing common", []edit{fails("nothing common")}, "?", []string{"not-judged: openssl s_client"}},
		{"one key type", []edit{alsoFails("no RSA")}, "pass deliver", nil},
		{"works with less than senders offer", []edit{fails("TLS error"), also("mx.example.org", starttls.RSA, goodRSA, inter)}, "fail clear-text validation-failure", []string{"senders-differ"}},
		{"works without SNI", []edit{fails("TLS error"), also("", starttls.Any, good, inter)}, "pass deliver", nil},
		{"only old TLS", []edit{fails("no version"), also("mx.example.org", starttls.OldTLS, good, inter), func(f *Facts) { f.Handshakes[1].Shown.Version = 0x0302 }}, "pass deliver", []string{"senders-differ: RFC 8996"}},
		{"only old TLS, also without SNI", []edit{fails("no version"), also("mx.example.org", starttls.OldTLS, good, inter), func(f *Facts) {
			f.Handshakes[1].Shown.Version = 0x0302
			h := failures["no version"]
			h.ServerName = ""
			f.Handshakes = append(f.Handshakes, h)
		}}, "pass deliver", []string{"senders-differ: RFC 8996"}},
		{"no TLS 1.3", []edit{alsoFails("no TLS 1.3")}, "pass deliver", nil},
		{"refuses us", []edit{fails("554")}, "?", []string{"-not-judged"}},
		{"greylisting", []edit{fails("greylisting")}, "?", []string{"-not-judged"}},
		{"refuses our EHLO", []edit{fails("550 to EHLO")}, "?", nil},
		{"no SMTP", []edit{fails("no SMTP")}, "?", nil},
		{"hangs up", []edit{fails("hangs up")}, "?", nil},
		{"refused", []edit{fails("refused")}, "?", nil},
		{"timeout", []edit{fails("timeout")}, "?", nil},
		{"unreachable", []edit{fails("unreachable")}, "?", nil},
		{"seen once, then refused", []edit{alsoFails("refused")}, "pass deliver", nil},
		{"no handshake", []edit{func(f *Facts) { f.Handshakes = nil }}, "?", nil},
		{"no address", []edit{noAddress(noA, noAAAA)}, "fail skip", nil},
		{"no address known", []edit{noAddress(answer("mx.example.org", "A", resolve.Failed), noAAAA)}, "fail skip", nil},
		{"bogus address", []edit{noAddress(answer("mx.example.org", "A", resolve.Bogus), noAAAA)}, "fail skip", nil},
		{"not asked", []edit{noAddress(noA, noAAAA), func(f *Facts) { f.NotAsked = "it is a backup" }}, "?", nil},
		{"address known, but not asked", []edit{func(f *Facts) { f.Handshakes, f.NotAsked = nil, "the time was up" }}, "?", nil},
		{"null MX", []edit{func(f *Facts) { f.Host, f.MX = "", mx(resolve.Secure, "") }}, "n/a bounce", nil},
		{"address as MX", []edit{noAddress(), func(f *Facts) { f.Host = "192.0.2.1" }}, "fail skip", []string{"senders-differ: Postfix connects to it, Exim returns"}},
		{"null MX beside", []edit{func(f *Facts) { f.MX = mx(resolve.Secure, "", "mx.example.org") }}, "pass deliver", []string{"senders-differ: Postfix returns its mail"}},
		{"SNI required", []edit{func(f *Facts) { h := failures["TLS error"]; h.ServerName = ""; f.Handshakes = append(f.Handshakes, h) }}, "fail clear-text validation-failure", []string{"senders-differ: Postfix and Exim send none"}},
		{"refused without SNI", []edit{func(f *Facts) { h := failures["refused"]; h.ServerName = ""; f.Handshakes = append(f.Handshakes, h) }}, "pass deliver", nil},
		{"address named as the host", []edit{func(f *Facts) {
			f.Host, f.Domain, f.MX, f.Addresses, f.Bases = "192.0.2.1", "", nil, nil, nil
			f.Handshakes[0].ServerName = "192.0.2.1"
		}}, "pass deliver", nil},
	})
}

// TestFactsAboutAddresses: the other kinds share what is said about a host that cannot be reached.
func TestUnreachedForAllKinds(t *testing.T) {
	for _, r := range []row{
		{"no address", []edit{noAddress(noA, noAAAA)}, "fail skip", nil},
		{"not asked", []edit{noAddress(noA, noAAAA), func(f *Facts) { f.NotAsked = "it is a backup" }}, "?", nil},
		{"refused", []edit{fails("refused")}, "?", nil},
		{"refuses us", []edit{fails("554")}, "?", nil},
		{"null MX", []edit{func(f *Facts) { f.Host, f.MX = "", mx(resolve.Secure, "") }}, "n/a bounce", nil},
	} {
		verdicts, findings := Judge(facts(r.edits...))
		sound(t, verdicts, findings)
		for _, kind := range Kinds {
			if got := short(verdicts[kind]); got != r.want {
				t.Errorf("%s, %s: got %q, want %q: %s", r.name, kind, got, r.want, verdicts[kind].Reason)
			}
		}
	}
}
