package doctor

import (
	"context"
	"strings"
	"time"

	"mxcert/acme"
	accounts "mxcert/acme/account"
	"mxcert/acme/authority"
	"mxcert/acme/finding"

	"mxcert/cmd/mxcert/internal/report"
)

// How far this host's clock may be from the CA's: TSIG tolerates five minutes (RFC 8945 section 10), and a new certificate may
// not be valid before the moment of its issue.
const (
	clockFault   = 5 * time.Minute
	clockWarning = 30 * time.Second
)

// ca asks a CA for its directory, and for the account if there is one.
func (d *Doctor) ca(ctx context.Context, url string, client *acme.Client) []finding.Finding {
	name := authority.Name(url)
	directory, err := client.Directory(ctx)
	if err != nil {
		return []finding.Finding{bad("%s", report.OneLine(err.Error())).About(name).Next(report.HintOf(err))}
	}
	text := name + " answers"
	if directory.Terms != "" {
		text += "; its terms of service: " + directory.Terms
	}
	found := []finding.Finding{well("%s", text).About(name), clockCheck(name, directory.ClockSkew), called("account", d.accountCheck(directory, client.Registrar(nil, nil).Info(ctx))).About(name)}
	found = append(found, called("limits", well("%s", client.Budget())).About(name))
	renewal := well("%s says when certificates are to be renewed (RFC 9773)", name)
	if directory.RenewalInfo == "" {
		renewal = well("%s does not say when certificates are to be renewed: their lifetime decides", name)
	}
	return append(found, called("renewal-info", renewal).About(name))
}

func clockCheck(ca string, skew time.Duration) finding.Finding {
	c := well("this host's clock and that of %s agree", ca)
	hint := ""
	if off := skew.Abs(); off >= clockWarning {
		way := "ahead of"
		if skew < 0 {
			way = "behind"
		}
		c, hint = doubtful("this host's clock is %s %s that of %s", off.Round(time.Second), way, ca), "correct the clock of this host: timedatectl"
		if off >= clockFault {
			c.Severity = finding.Error
		}
	}
	return called("clock", c).About(ca).Next(hint)
}

// accountCheck reports what the CA says about the account, or what a new account would need.
func (d *Doctor) accountCheck(directory acme.Directory, info accounts.Info) finding.Finding {
	name := authority.Name(directory.URL)
	kid, bound := d.Runner.Host.ExternalBinding(directory.URL)
	switch {
	case info.Status == accounts.StatusUnknown:
		return doubtful("%s no longer knows the account %s: the next order registers its key again", name, info.URL).
			Next("if CAA records name the account (accounturi), change them afterwards")
	case info.Err != nil:
		return bad("the account at %s: %s", name, report.OneLine(info.Err.Error())).Next(report.HintOf(info.Err))
	case info.Status == "valid":
		if info.Terms != "" && info.CATerms != "" && info.Terms != info.CATerms {
			return doubtful("the account %s agreed to %s, and the terms of service are %s now", info.URL, info.Terms, info.CATerms).Next("read them; acme.agree_tos says that you agree")
		}
		return well("the account %s is valid", info.URL)
	case info.URL != "":
		return bad("the account %s is %s", info.URL, info.Status).Next("mxcert account register makes a new one")
	case directory.EABRequired && !bound:
		return bad("%s takes only accounts with an external binding, and acme.eab is not set", name).Next("get a key identifier and a MAC key on the CA's pages, and set acme.eab: {kid, hmac_key}")
	case directory.EABRequired:
		return well("no account at %s yet: the first order registers one, with the external binding %s", name, kid)
	}
	return well("no account at %s yet: the first order registers one", name)
}

// oneCAIsEnough turns the errors of CAs that do not answer into warnings if another CA answers.
func oneCAIsEnough(checks []Check) []Check {
	reached := false
	for _, c := range checks {
		reached = reached || c.ID == "ca" && c.Severity == finding.OK
	}
	for i, c := range checks {
		if reached && c.ID == "ca" && c.Severity == finding.Error {
			checks[i].Severity = finding.Warning
			checks[i].Message = strings.TrimSuffix(c.Message, ".") + "; mxcert asks another CA then"
		}
	}
	return checks
}
