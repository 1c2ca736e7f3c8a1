package cli

import (
	"context"
	"strings"
	"time"

	"mxcert/acme"
	accounts "mxcert/acme/account"
	"mxcert/acme/authority"
)

// How far this host's clock may be from the CA's: TSIG bears five minutes (RFC 8945 section 10), and a new certificate may
// be valid from now on only.
const (
	clockFault   = 5 * time.Minute
	clockWarning = 30 * time.Second
)

// lookAtCA asks a CA for its directory, and for the account where there is one.
func (d *doctor) lookAtCA(ctx context.Context, url string, client *acme.Client) []doctorCheck {
	name := authority.Name(url)
	directory, err := client.Directory(ctx)
	if err != nil {
		return []doctorCheck{bad("%s", oneLine(err.Error())).about(name).because(hintOf(err))}
	}
	text := name + " answers"
	if directory.Terms != "" {
		text += "; its terms of service: " + directory.Terms
	}
	checks := []doctorCheck{well("%s", text).about(name), clockCheck(name, directory.ClockSkew), d.accountCheck(directory, client.Registrar(nil, nil).Info(ctx)).called("account").about(name)}
	renewal := well("%s says when certificates are to be renewed (RFC 9773)", name)
	if directory.RenewalInfo == "" {
		renewal = well("%s does not say when certificates are to be renewed: their lifetime decides", name)
	}
	return append(checks, renewal.called("renewal-info").about(name))
}

func clockCheck(ca string, skew time.Duration) doctorCheck {
	c := well("this host's clock and that of %s agree", ca)
	hint := ""
	if off := skew.Abs(); off >= clockWarning {
		way := "ahead of"
		if skew < 0 {
			way = "behind"
		}
		c, hint = doubtful("this host's clock is %s %s that of %s", off.Round(time.Second), way, ca), "set the clock of this host right: timedatectl"
		if off >= clockFault {
			c.Severity = errorSeverity
		}
	}
	return c.called("clock").about(ca).because(hint)
}

// accountCheck says what the CA makes of the account, or what a new one would need.
func (d *doctor) accountCheck(directory acme.Directory, info accounts.Info) doctorCheck {
	name := authority.Name(directory.URL)
	binding, bound := d.config.ACME.Binding(directory.URL)
	switch {
	case info.Status == accounts.StatusUnknown:
		return doubtful("%s does not know the account %s any more: the next order registers its key again", name, info.URL).
			because("where CAA records name the account (accounturi), they have to be changed then")
	case info.Err != nil:
		return bad("the account at %s: %s", name, oneLine(info.Err.Error())).because(hintOf(info.Err))
	case info.Status == "valid":
		if info.Terms != "" && info.CATerms != "" && info.Terms != info.CATerms {
			return doubtful("the account %s agreed to %s, and the terms of service are %s now", info.URL, info.Terms, info.CATerms).because("read them; acme.agree_tos says that you agree")
		}
		return well("the account %s is valid", info.URL)
	case info.URL != "":
		return bad("the account %s is %s", info.URL, info.Status).because("mxcert account register makes a new one")
	case directory.EABRequired && !bound:
		return bad("%s takes only accounts with an external binding, and acme.eab is not set", name).because("get a key identifier and a MAC key on the CA's pages, and set acme.eab: {kid, hmac_key}")
	case directory.EABRequired:
		return well("none at %s yet: the first order registers one, with the external binding %s", name, binding.KID)
	}
	return well("none at %s yet: the first order registers one", name)
}

// oneCAIsEnough makes warnings of CAs that do not answer while another does.
func oneCAIsEnough(checks []doctorCheck) []doctorCheck {
	reached := false
	for _, c := range checks {
		reached = reached || c.ID == "ca" && c.Severity == wellSeverity
	}
	for i, c := range checks {
		if reached && c.ID == "ca" && c.Severity == errorSeverity {
			checks[i].Severity = warningSeverity
			checks[i].Message = strings.TrimSuffix(c.Message, ".") + "; another CA is asked then"
		}
	}
	return checks
}
