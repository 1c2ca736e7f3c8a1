package preflight

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"mxcert/acme/authority"
	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

// caa judges the CAA records of a name (RFC 8659).
func (c CA) caa(name string, looked nameState) finding.Finding {
	const id = "caa"
	base, wildcard := strings.CutPrefix(name, "*.")
	switch {
	case looked.caaErr != nil && c.private() && looked.caaAbove():
		return finding.New(id, finding.OK, "no CAA record in zone %s; the zones above cannot be asked", resolve.PlainName(looked.zone)).About(name)
	case looked.caaErr != nil:
		return finding.New(id, finding.Warning, "the CAA records of %s cannot be looked up, and a CA that cannot look them up does not issue: %s", base, finding.Line(looked.caaErr)).
			About(name).Next(hintIn(looked.caaErr))
	case len(looked.caa.Records) == 0:
		return finding.New(id, finding.OK, "no CAA record keeps a CA from issuing").About(name)
	}
	at := "the CAA records of " + resolve.PlainName(looked.caa.Owner)
	if looked.caa.Alias != "" {
		at += " (at " + resolve.PlainName(looked.caa.Alias) + ", where a CNAME leads)"
	}
	verdict := caaRules{ca: c.Name, identities: c.CAAIdentities, account: c.Account, wildcard: wildcard}.judge(looked.caa.Records)
	f := finding.New(id, verdict.severity, "%s %s", at, verdict.says).About(name).Next(verdict.hint)
	if f.Severity == finding.Error && f.Hint == "" {
		f.Hint = fmt.Sprintf("add to the zone: %s. CAA 0 %s %q", resolve.PlainName(looked.caa.Owner), verdict.tag, c.CAAIdentities[0])
	}
	return f
}

// private reports whether the CA is none of the public ones that mxcert knows: it may issue for zones that the public DNS does not have.
func (c CA) private() bool {
	_, public := authority.AtHost("https://" + c.Name)
	return !public
}

// caaAbove reports whether only names above the zone could not be asked, as for a zone without a parent: the records of the zone
// itself are known.
func (n nameState) caaAbove() bool {
	failed, ok := errors.AsType[*resolve.Error](n.caaErr)
	return ok && n.zone != "" && failed.Above(n.zone)
}

// caaRules are the facts with which the records are compared.
type caaRules struct {
	ca         string   // the CA in messages
	identities []string // of the CA, from its directory (RFC 8555 section 7.1.1)
	account    string   // URL
	wildcard   bool
}

// caaVerdict completes the sentence "the CAA records of NAME …".
type caaVerdict struct {
	severity   finding.Severity
	says, hint string
	tag        string // of the record that is missing
}

// judge applies RFC 8659 section 4 and RFC 8657: for a wildcard, issuewild records displace issue records; one record that
// names the CA, with parameters that fit, is enough.
func (c caaRules) judge(records []resolve.CAA) caaVerdict {
	tag := "issue"
	if c.wildcard && slices.ContainsFunc(records, func(r resolve.CAA) bool { return r.Tag == "issuewild" }) {
		tag = "issuewild"
	}
	var relevant []resolve.CAA
	for _, r := range records {
		switch r.Tag {
		case "issue", "issuewild", "iodef":
		case "issuemail", "issuevmc", "contactemail", "contactphone":
			// Many CAs know these (RFC 9495, CA/Browser Forum); they are not about this kind of certificate.
		default:
			if r.Critical {
				return caaVerdict{severity: finding.Error, says: fmt.Sprintf("have a critical property %q, and a CA that does not know it must not issue", word(r.Tag)),
					hint: "remove the critical flag (128) from that record"}
			}
		}
		if r.Tag == tag {
			relevant = append(relevant, r)
		}
	}
	if len(relevant) == 0 {
		return caaVerdict{severity: finding.OK, says: "do not restrict who issues"}
	}
	if len(c.identities) == 0 {
		return caaVerdict{severity: finding.Warning, says: fmt.Sprintf("restrict who issues, but mxcert cannot judge whether %s may: its directory does not name its CAA identities", c.ca),
			hint: "compare the records with the CA's documentation"}
	}
	return c.match(tag, relevant)
}

// match looks for a record that lets the CA issue.
func (c caaRules) match(tag string, relevant []resolve.CAA) caaVerdict {
	refused := caaVerdict{severity: finding.Error, tag: tag}
	var others []string
	for _, r := range relevant {
		issuer, parameters, ok := parseIssue(r.Value)
		if !ok || !slices.Contains(c.identities, issuer) {
			if ok && issuer != "" && !slices.Contains(others, issuer) {
				others = append(others, issuer)
			}
			continue
		}
		why, hint := c.unfit(parameters)
		if why == "" {
			return caaVerdict{severity: finding.OK, says: fmt.Sprintf("let %s issue (%s %s)", c.ca, tag, issuer)}
		}
		refused.says, refused.hint = fmt.Sprintf("name %s (%s %s), but %s", c.ca, tag, issuer, why), hint
	}
	switch {
	case refused.says != "":
	case len(others) == 0:
		refused.says = fmt.Sprintf("let no CA issue (%s)", tag)
	default:
		refused.says = fmt.Sprintf("do not let %s issue: %s names %s", c.ca, tag, finding.Quote(strings.Join(others, ", "), finding.MostQuoted))
	}
	return refused
}

// unfit says why the parameters of a record do not fit this account and method (RFC 8657); "" if they do.
func (c caaRules) unfit(parameters [][2]string) (why, hint string) {
	var accounts, methods []string
	for _, p := range parameters {
		switch strings.ToLower(p[0]) {
		case "accounturi":
			accounts = append(accounts, p[1])
		case "validationmethods":
			methods = append(methods, p[1])
		}
	}
	switch {
	case len(accounts) > 1 || len(methods) > 1:
		return "one record has a parameter twice, and no request can satisfy that", "leave one accounturi and one validationmethods in each record"
	case len(methods) == 1 && !slices.Contains(strings.Split(methods[0], ","), "dns-01"):
		return "not for the method dns-01: validationmethods is " + word(methods[0]), "add dns-01 to validationmethods in the CAA record"
	case len(accounts) == 1 && c.account == "":
		return "only for the account " + word(accounts[0]) + ", and there is no account here yet",
			"copy that account's directory below the state directory, or remove accounturi from the CAA record until the first order has registered an account"
	case len(accounts) == 1 && accounts[0] != c.account:
		return fmt.Sprintf("only for the account %s, and the account here is %s", word(accounts[0]), word(c.account)),
			"put the URL of the account here into accounturi of the CAA record: " + word(c.account)
	}
	return "", ""
}

// parseIssue parses the value of an issue or issuewild property (RFC 8659 section 4.2). A malformed value names no CA at all;
// then ok is false.
func parseIssue(value string) (issuer string, parameters [][2]string, ok bool) {
	domain, rest, more := strings.Cut(value, ";")
	issuer = strings.ToLower(strings.Trim(domain, " \t"))
	if !onlyChars(issuer, func(c byte) bool { return isAlnum(c) || c == '-' || c == '.' }) {
		return "", nil, false
	}
	if !more {
		return issuer, nil, true
	}
	for part := range strings.SplitSeq(rest, ";") {
		if strings.Trim(part, " \t") == "" {
			continue // the grammar does not allow this, but it is common
		}
		tag, text, found := strings.Cut(part, "=")
		tag, text = strings.Trim(tag, " \t"), strings.Trim(text, " \t")
		good := found && tag != "" && onlyChars(tag, func(c byte) bool { return isAlnum(c) || c == '-' }) &&
			onlyChars(text, func(c byte) bool { return c > 0x20 && c < 0x7F })
		if !good {
			return "", nil, false
		}
		parameters = append(parameters, [2]string{tag, text})
	}
	return issuer, parameters, true
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func onlyChars(s string, allowed func(byte) bool) bool {
	for i := range len(s) {
		if !allowed(s[i]) {
			return false
		}
	}
	return true
}

// word makes one word from DNS safe for messages.
func word(text string) string { return finding.Quote(text, mostWord) }
