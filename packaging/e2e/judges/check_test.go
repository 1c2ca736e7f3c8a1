package judges

import (
	"slices"
	"strings"
	"testing"

	"mxcert/packaging/e2e/mailhost"
)

// check compares the answers with the table.
func check(t *testing.T, seats []*seat, got []answers, release mailhost.Release) {
	for i, s := range seats {
		want := s.want
		if release == mailhost.Debian13 && s.on13 != "" {
			want = s.on13
		}
		if missing := got[i].missing(); missing != "" {
			t.Errorf("%s (%s): %s did not judge\n got %s", s.id, s.what, missing, got[i])
		} else if got[i].String() != want {
			t.Errorf("%s (%s)\n got %s\nwant %s", s.id, s.what, got[i], want)
		}
		checkReasons(t, s, got[i])
	}
}

// checkReasons asks a row for its reason if a judge decides otherwise than mxcert, and mxcert for the finding that names this sender,
// about the kind or about all of them.
func checkReasons(t *testing.T, s *seat, got answers) {
	others := divergent(got)
	if len(others) > 0 && s.why == "" {
		t.Errorf("%s (%s): %s decide otherwise than mxcert, and the row does not say why", s.id, s.what, strings.Join(others, ", "))
	}
	if len(others) == 0 && s.why != "" {
		t.Errorf("%s (%s): nobody decides otherwise than mxcert, but the row says why: %s", s.id, s.what, s.why)
	}
	for _, other := range others {
		kind, who, _ := strings.Cut(other, " ")
		if sender := who == "Postfix" || who == "Exim"; sender && !s.unnamed && !named(got.Differ, kind, who) && !named(got.Differ, "opportunistic", who) {
			t.Errorf("%s (%s): mxcert does not say that %s decides otherwise as to %s: %s", s.id, s.what, who, kind, got.Differ)
		}
	}
}

func named(differ, kind, who string) bool {
	_, rest, found := strings.Cut(differ, kind+":")
	if !found {
		return false
	}
	for _, word := range strings.Fields(rest) {
		if strings.HasSuffix(word, ":") {
			return false
		}
		if word == who {
			return true
		}
	}
	return false
}

// divergent lists who decides otherwise than mxcert about DANE and PKIX, as "dane Postfix".
func divergent(got answers) []string {
	mine := strings.Fields(got.Ours)
	if len(mine) != len(kindsOfSenders) {
		return nil
	}
	var others []string
	add := func(differs bool, who string) {
		if differs {
			others = append(others, who)
		}
	}
	field := func(text string, i int) string { return append(strings.Fields(text), "-", "-", "-", "-")[i] }
	if dane := mine[2]; dane[0] != '?' {
		add(!agrees(dane, field(got.Postfix, 1)), "dane Postfix")
		add(!agrees(dane, field(got.Exim, 0)), "dane Exim")
		add(!sameResult(dane, field(got.OpenSSL, 0)), "dane openssl")
		add(!sameResult(dane, field(got.GnuTLS, 0)), "dane danetool")
	}
	if pkix := mine[1]; pkix[0] != '?' {
		add(!sameResult(pkix, field(got.Postfix, 3)), "pkix Postfix")
		add(!sameResult(pkix, field(got.Exim, 2)), "pkix Exim")
		add(!sameResult(pkix, field(got.OpenSSL, 1)), "pkix openssl")
		add(!sameResult(pkix, field(got.GnuTLS, 1)), "pkix gnutls-cli")
	}
	return others
}

// agrees compares what mxcert says a sender does with what became of a delivery.
func agrees(mine, outcome string) bool {
	if outcome == "-" || mine == "=" {
		return true
	}
	outcomes := map[string][]string{"deliver": {"V"}, "unauthenticated": {"T", "U"}, "clear-text": {"C"}, "skip": {"D", "B"}, "bounce": {"B", "D"}}
	return slices.Contains(outcomes[mine[1:]], outcome)
}

// sameResult compares mxcert's pass or fail with another's. Who has no answer, and n/a, agree with all.
func sameResult(mine, other string) bool {
	if other == "-" || mine[0] == '=' {
		return true
	}
	return (mine[0] == '+') == slices.Contains([]string{"ok", "V", "T"}, other)
}
