package verdict

import (
	"mxcert/acme/resolve"
	"mxcert/deploy/mtasts"
)

// requireTLS judges RFC 8689 section 4.2.1, for mail whose sender asks for it with REQUIRETLS. Such mail goes to a host whose name is
// secured by DNSSEC or MTA-STS, whose certificate is verified by PKIX or DANE, and that offers REQUIRETLS under TLS. If no host is left, it
// goes back to its sender.
func (j *judge) requireTLS(pkix, dane Verdict) Verdict {
	if v := j.unreached(); v != nil {
		return *v
	}
	s := j.ordinary()
	if v := j.noTLS(RequireTLS, s); v != nil {
		if v.Result == Fail {
			v.Action = Bounce
		}
		return *v
	}
	offered, asked := offer(s)
	switch {
	case !asked:
		return notJudged("mxcert does not know whether %s offers REQUIRETLS, because the conversation ended before that", j.who())
	case !offered:
		return notApplicable(Bounce, "%s does not offer REQUIRETLS, so mail that asks for it goes back to its sender; other mail is not concerned", j.who())
	}
	if v := j.unsecuredName(); v != nil {
		return *v
	}
	switch {
	case dane.Result == Pass:
		return pass(Deliver, "%s offers REQUIRETLS, and its name and certificate can be relied on (DANE)", j.who())
	case pkix.Result == Fail && dane.NotJudged:
		return notJudged("%s offers REQUIRETLS, and its certificate is not verified by a trusted root; whether DANE verifies it, mxcert cannot judge", j.who())
	case pkix.Result == Fail:
		kind := pkix.Type
		if dane.Result == Fail {
			kind = dane.Type
		}
		return fail(Bounce, kind, "%s offers REQUIRETLS, but its certificate is verified neither by DANE nor by a trusted root", j.who())
	case pkix.NotJudged:
		return notJudged("%s offers REQUIRETLS, but mxcert cannot judge its certificate", j.who())
	}
	if dane.Result == Fail {
		j.differUntil(fixDANE, RequireTLS, "DANE fails for %s, and its certificate is verified by a trusted root, which the RFC takes for enough: mox and other senders that use DANE skip the host", j.who())
	} else if !j.stsSecured() && !dane.NotJudged {
		j.differ(RequireTLS, "the name of %s is %s, and a trusted root vouches for its certificate, but there are neither TLSA records nor MTA-STS: the RFC delivers such mail, mox returns it", j.who(), j.nameFrom())
	}
	return pass(Deliver, "%s offers REQUIRETLS, and its name and certificate can be relied on", j.who())
}

// nameFrom says why the name of the host can be relied on, if not by MTA-STS.
func (j *judge) nameFrom() string {
	if j.MX == nil {
		return "given to the sender"
	}
	return "secured by DNSSEC"
}

// offer reports whether every conversation under TLS offered REQUIRETLS, and whether there was one.
func offer(s session) (offered, asked bool) {
	offered = true
	for _, h := range s.shown {
		if h.Err != nil {
			continue
		}
		asked = true
		offered = offered && h.Shown.Offers("REQUIRETLS")
	}
	return offered && asked, asked
}

// unsecuredName is the verdict if neither DNSSEC nor MTA-STS says that the host belongs to the domain.
func (j *judge) unsecuredName() *Verdict {
	var v Verdict
	switch {
	case j.stsSecured(), j.secureMX():
		return nil
	case broken(j.MX.At(j.At)):
		v = fail(Skip, typeDNS, "the MX records of %s cannot be relied on: %s", j.subject(), j.trouble(j.MX.Answer))
	case j.MX.State == resolve.Insecure && j.MX.Validator == "":
		v = notJudged("%s offers REQUIRETLS, but no resolver whose validation counts says whether the MX records of %s are signed", j.who(), j.subject())
	case j.Policy == nil || j.Policy.NotJudged:
		v = notJudged("%s offers REQUIRETLS, but mxcert cannot tell whether an MTA-STS policy of %s names it", j.who(), j.subject())
	default:
		v = fail(Bounce, typeOther, "%s offers REQUIRETLS, but neither DNSSEC nor MTA-STS secures that it is an MX host of %s", j.who(), j.subject())
	}
	return &v
}

// stsSecured reports whether an enforced policy names the host.
func (j *judge) stsSecured() bool {
	return j.Policy != nil && j.Policy.Policy != nil && j.Policy.Policy.Mode == mtasts.Enforce && j.Policy.Policy.Permits(j.Host)
}
