package pass

import (
	"fmt"

	"mxcert/cmd/mxcert/internal/report"
)

// tlsaFault warns of something that did not work.
func (p *pass) tlsaFault(what string, err error) {
	p.tlsa.failed = true
	p.warn(faultText(what, err))
}

// unpublished returns the exit code of a pass that was to bring the records up to date and nothing else, if it could not.
func (p *pass) unpublished() (report.Code, bool) {
	switch t := p.tlsa; {
	case !p.options.Publish || t == nil:
		return report.CodeOK, false
	case t.unknown() != nil:
		return report.CodeTemporary, true
	default:
		return report.CodeFailed, t.failed
	}
}

// faultText says what did not work, why, and what to do.
func faultText(what string, err error) string {
	text := fmt.Sprintf("%s: %s", what, report.OneLine(err.Error()))
	if hint := report.HintOf(err); hint != "" {
		text += "; " + hint
	}
	return text
}
