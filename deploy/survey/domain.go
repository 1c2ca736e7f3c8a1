package survey

import "mxcert/deploy/verdict"

// domainVerdicts says what finally happens to a mail for the domain. The further ports of our hosts are not for mail from others.
func (s *survey) domainVerdicts(d Domain, hosts []Host) map[verdict.Kind]verdict.Verdict {
	var judged []verdict.Judged
	for _, h := range hosts {
		if h.Port == s.Port {
			judged = append(judged, verdict.Judged{Host: h.Host, Address: h.Address, Verdicts: h.Verdicts})
		}
	}
	mx := d.MX
	mx.State = mx.At(s.time())
	return verdict.Domain(d.Domain, mx, judged)
}
