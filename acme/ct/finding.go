package ct

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mxcert/acme/authority"
	"mxcert/acme/finding"
	"mxcert/acme/state"
)

// The findings of a watch.
const (
	UnknownCertificate = "ct-unknown-certificate"
	SourceFails        = "ct-source"
	OursUnreadable     = "ct-ours"
)

// silentTime is how long a source may give no answer before people are told. A service on the internet is away now and then.
const silentTime = 48 * time.Hour

// mostSaid limits the findings about one certificate.
const mostSaid = 20

// Findings says what is unknown, by certificate, and under "" which sources have not answered for long. caa are records that [CAA] gives.
func (m *Memory) Findings(names Names, caa func(name string) []string, sources []Source, now time.Time) map[string][]finding.Finding {
	all := map[string][]finding.Finding{}
	for _, u := range m.Unknown {
		if !u.Told(now) {
			continue
		}
		for _, certificate := range names.Owners(u.Entry) {
			if len(all[certificate]) < mostSaid {
				all[certificate] = append(all[certificate], u.finding(names, caa, now))
			}
		}
	}
	for _, s := range sources {
		if f, fails := m.Failing[s.Name()]; fails && (f.Token || now.Sub(f.Since) >= silentTime) {
			all[""] = append(all[""], f.finding(s.Name()))
		}
	}
	return all
}

func (f Failing) finding(source string) finding.Finding {
	hint := "mxcert ct check asks now; another source can be set in ct.sources"
	if f.Token {
		hint = "put a valid token into the secret that ct.sources names"
	}
	return finding.New(SourceFails, finding.Warning, "mxcert has not been able to look for unknown certificates since %s: %s", minute(f.Since), finding.Quote(f.Text, finding.MostQuoted)).About(source).Next(hint)
}

func (u Unknown) finding(names Names, caa func(string) []string, now time.Time) finding.Finding {
	severity, state := finding.Error, "valid until "
	switch {
	case now.After(u.NotAfter):
		severity, state = finding.Warning, "expired at "
	case u.Revoked:
		severity, state = finding.Warning, "revoked, valid until "
	}
	shared := quoted(names.Shared(u.Entry))
	f := finding.New(UnknownCertificate, severity, "a certificate for %s is in the logs that mxcert did not order: issuer %s, serial %s, %s%s, issued at %s; found by %s at %s%s",
		strings.Join(shared, ", "), finding.Quoted(u.Issuer, mostText), finding.Quote(u.ID(), 80), state, minute(u.NotAfter), minute(u.NotBefore), u.Source, minute(u.Seen), linkOf(u.Entry))
	return f.About(fmt.Sprintf("%s, serial %s", shared[0], finding.Quote(u.ID(), 80))).Next(u.NextStep(names, caa))
}

func linkOf(e Entry) string {
	if e.Link == "" {
		return ""
	}
	return ": " + finding.QuoteLink(e.Link, finding.MostQuoted)
}

// NextStep says what to do about an entry that nobody has ordered.
func (e Entry) NextStep(names Names, caa func(name string) []string) string {
	text := "if another machine or program of yours ordered it: `mxcert ct check --accept " + finding.Word(e.ID()) + "`, or name its file in ct.ours; if not, ask its CA to revoke it, find out who can change your DNS or answer for the host"
	if shared := names.Shared(e); len(shared) > 0 {
		if records := caa(shared[0]); len(records) > 0 {
			text += ", and let only your account order (RFC 8657): " + strings.Join(records, "; ")
		}
	}
	return text
}

func quoted(names []string) []string {
	list := make([]string, 0, len(names))
	for _, name := range names {
		list = append(list, finding.Quote(name, 255))
	}
	if len(list) == 0 {
		list = append(list, "a name of yours")
	}
	return list
}

func minute(at time.Time) string { return at.UTC().Format("2006-01-02 15:04 UTC") }

// CAA returns what makes the CAA records with which only the accounts of the state may order for a name: RFC 8659, RFC 8657 section 3. A CA
// that is not in the table of authorities is left out, because nobody here knows by which domain records name it.
func CAA(book *state.Book, directories []string) func(name string) []string {
	parameters := map[string]bool{}
	for _, directory := range directories {
		account, ok, err := book.Account(directory)
		if err != nil || !ok || account.URL == "" || authority.CAA(directory) == "" {
			continue
		}
		parameters[fmt.Sprintf(`"%s; accounturi=%s"`, authority.CAA(directory), account.URL)] = true
	}
	return func(name string) (records []string) {
		name, tag := strings.TrimPrefix(name, "*."), "issue"
		for _, value := range slices.Sorted(maps.Keys(parameters)) {
			records = append(records, fmt.Sprintf("%s. CAA 0 %s %s", name, tag, value))
		}
		return records
	}
}
