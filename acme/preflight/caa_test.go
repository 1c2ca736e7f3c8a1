package preflight

import (
	"strings"
	"testing"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

// TestCAARules has the rules of RFC 8659 section 4 and RFC 8657.
func TestCAARules(t *testing.T) {
	const account = "https://ca.example/acme/acct/7"
	issue := func(values ...string) (set []resolve.CAA) {
		for _, v := range values {
			set = append(set, resolve.CAA{Tag: "issue", Value: v})
		}
		return set
	}
	wild := func(values ...string) (set []resolve.CAA) {
		for _, v := range values {
			set = append(set, resolve.CAA{Tag: "issuewild", Value: v})
		}
		return set
	}
	for _, tt := range []struct {
		what     string
		records  []resolve.CAA
		wildcard bool
		nobody   bool   // the CA names no identity
		account  string // "-" is none
		want     finding.Severity
		says     string
	}{
		{what: "the CA", records: issue("ca.example"), want: finding.OK, says: "let CA issue"},
		{what: "the CA's other name", records: issue("other.ca.example"), want: finding.OK},
		{what: "in capitals and spaces", records: issue("  CA.Example ; "), want: finding.OK},
		{what: "another CA", records: issue("evil.example"), want: finding.Error, says: "issue names evil.example"},
		{what: "another CA and this one", records: issue("evil.example", "ca.example"), want: finding.OK},
		{what: "a name below the CA's", records: issue("x.ca.example"), want: finding.Error},
		{what: "nobody", records: issue(";"), want: finding.Error, says: "let no CA issue"},
		{what: "nobody, in another way", records: issue(""), want: finding.Error},
		{what: "nobody, and this one", records: issue(";", "ca.example"), want: finding.OK},
		{what: "malformed", records: issue("ca.example; what"), want: finding.Error, says: "let no CA issue"},
		{what: "malformed domain", records: issue("ca_example!"), want: finding.Error},
		{what: "malformed, and this one", records: issue("%%%", "ca.example"), want: finding.OK},
		{what: "only iodef", records: []resolve.CAA{{Tag: "iodef", Value: "mailto:x@example.org"}}, want: finding.OK, says: "do not restrict"},
		{what: "only critical iodef", records: []resolve.CAA{{Tag: "iodef", Critical: true}}, want: finding.OK},
		{what: "critical issue", records: []resolve.CAA{{Tag: "issue", Value: "ca.example", Critical: true}}, want: finding.OK},
		{what: "critical issuemail", records: []resolve.CAA{{Tag: "issuemail", Value: ";", Critical: true}}, want: finding.OK},
		{what: "unknown", records: append(issue("ca.example"), resolve.CAA{Tag: "tbs", Value: "x"}), want: finding.OK},
		{what: "unknown and critical", records: append(issue("ca.example"), resolve.CAA{Tag: "tbs", Value: "x", Critical: true}), want: finding.Error, says: `critical property "tbs"`},

		{what: "only wildcards are restricted", records: wild(";"), want: finding.OK, says: "do not restrict"},
		{what: "a wildcard under issue", records: issue("ca.example"), wildcard: true, want: finding.OK},
		{what: "a wildcard under issue of another", records: issue("evil.example"), wildcard: true, want: finding.Error},
		{what: "issuewild displaces issue", records: append(issue("ca.example"), wild(";")...), wildcard: true, want: finding.Error, says: "issuewild"},
		{what: "issuewild displaces issue to the good", records: append(issue(";"), wild("ca.example")...), wildcard: true, want: finding.OK},
		{what: "issuewild says nothing of other names", records: append(issue(";"), wild("ca.example")...), want: finding.Error},

		{what: "this account", records: issue("ca.example; accounturi=" + account), want: finding.OK},
		{what: "this account, in capitals", records: issue("ca.example; AccountURI=" + account), want: finding.OK},
		{what: "another account", records: issue("ca.example; accounturi=https://ca.example/acme/acct/8"), want: finding.Error, says: "only for the account https://ca.example/acme/acct/8, and the account here is " + account},
		{what: "another account, and any", records: issue("ca.example; accounturi=https://ca.example/acme/acct/8", "ca.example"), want: finding.OK},
		{what: "no account yet", records: issue("ca.example; accounturi=" + account), account: "-", want: finding.Error, says: "no account here yet"},
		{what: "two accounts in one record", records: issue("ca.example; accounturi=" + account + "; accounturi=" + account), want: finding.Error, says: "twice"},
		{what: "this method", records: issue("ca.example; validationmethods=http-01,dns-01"), want: finding.OK},
		{what: "another method", records: issue("ca.example; validationmethods=http-01"), want: finding.Error, says: "validationmethods is http-01"},
		{what: "no method", records: issue("ca.example; validationmethods="), want: finding.Error},
		{what: "part of a method's name", records: issue("ca.example; validationmethods=dns-01x"), want: finding.Error},
		{what: "account and method", records: issue("ca.example; validationmethods=dns-01; accounturi=" + account), want: finding.OK},
		{what: "unknown parameters", records: issue("ca.example; policy=ev; x=1"), want: finding.OK},
		{what: "for wildcards too", records: wild("ca.example; validationmethods=http-01"), wildcard: true, want: finding.Error, says: "http-01"},

		{what: "a CA without identity", records: issue("ca.example"), nobody: true, want: finding.Warning, says: "cannot judge"},
		{what: "a CA without identity, nobody", records: issue(";"), nobody: true, want: finding.Warning, says: "cannot judge"},
		{what: "a CA without identity, no restriction", records: wild(";"), nobody: true, want: finding.OK},
		{what: "a CA without identity, critical", records: []resolve.CAA{{Tag: "tbs", Critical: true}}, nobody: true, want: finding.Error},
	} {
		c := caaRules{ca: "CA", identities: []string{"ca.example", "other.ca.example"}, account: account, wildcard: tt.wildcard}
		if tt.nobody {
			c.identities = nil
		}
		if tt.account != "" {
			c.account = strings.Trim(tt.account, "-")
		}
		if got := c.judge(tt.records); got.severity != tt.want || !strings.Contains(got.says, tt.says) {
			t.Errorf("%s: %s, %q", tt.what, got.severity, got.says)
		}
	}
}

func TestProfileLimits(t *testing.T) {
	for _, tt := range []struct {
		host, profile string
		names         int
		want          finding.Severity
	}{
		{"acme-v02.api.letsencrypt.org", "", 100, finding.OK},
		{"acme-v02.api.letsencrypt.org", "", 101, finding.Error},
		{"acme-v02.api.letsencrypt.org", "classic", 100, finding.OK},
		{"acme-v02.api.letsencrypt.org", "tlsserver", 25, finding.OK},
		{"acme-v02.api.letsencrypt.org", "tlsserver", 26, finding.Error},
		{"acme-staging-v02.api.letsencrypt.org", "shortlived", 26, finding.Error},
		{"acme-v02.api.letsencrypt.org", "future", 101, finding.OK},
		{"evil-letsencrypt.org", "tlsserver", 26, finding.OK},
		{"ca.example:14000", "", 500, finding.OK},
	} {
		v := CA{Name: tt.host, Profiles: map[string]string{"classic": "", "tlsserver": "", "shortlived": "", "future": ""}}
		if f := v.profile(Request{Names: make([]string, tt.names), Profile: tt.profile}); f.Severity != tt.want || (f.Hint != "") != (tt.want == finding.Error) {
			t.Errorf("%s, profile %q, %d names: %+v", tt.host, tt.profile, tt.names, f)
		}
	}
}

// FuzzCAA gives what a zone may have in its CAA records.
func FuzzCAA(f *testing.F) {
	for _, value := range []string{"", ";", "ca.example", " CA.example ; accounturi=https://ca.example/1; validationmethods=dns-01 ;", "ca.example;=", "ca.example; a=b=c", "\x00; \xff=1"} {
		f.Add("issue", value, true)
	}
	f.Fuzz(func(t *testing.T, tag, value string, critical bool) {
		issuer, parameters, ok := parseIssue(value)
		if !ok && (issuer != "" || parameters != nil) {
			t.Errorf("%q is malformed and names %q %q", value, issuer, parameters)
		}
		if issuer != strings.ToLower(issuer) || strings.ContainsAny(issuer, "; \t=") {
			t.Errorf("%q names %q", value, issuer)
		}
		v := caaFinding(t, []resolve.CAA{{Tag: tag, Value: value, Critical: critical}})
		if v.Severity == finding.OK && tag == "issue" && issuer != "ca.example" {
			t.Errorf("%q lets the CA issue", value)
		}
		for _, text := range []string{v.Message, v.Hint} {
			if strings.ContainsAny(text, "\n\r\x1b\x00") || len(text) > 1000 {
				t.Errorf("%q is said as %q", value, text)
			}
		}
	})
}

func caaFinding(t *testing.T, records []resolve.CAA) finding.Finding {
	t.Helper()
	v := CA{Name: "ca.example", CAAIdentities: []string{"ca.example"}}
	return v.caa("*.example.org", nameState{caa: resolve.CAASet{Owner: "example.org.", Records: records}})
}
