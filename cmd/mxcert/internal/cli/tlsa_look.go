package cli

import (
	"context"
	"fmt"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/deploy/dane"
	"mxcert/deploy/served"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// tlsaLook is what a command finds out about the TLSA records of one certificate.
type tlsaLook struct {
	*pass.TLSALook
	lineage  *state.Lineage
	findings []finding.Finding // what could not be read or looked up
}

// readTLSA reads what is issued and what is remembered. It asks nobody. Without a certificate, there is no key to name in a record.
func readTLSA(store *state.Book, want wanted.Certificate) (*tlsaLook, error) {
	lineage := store.Lineage(want.Name)
	read, err := pass.ReadTLSA(want, lineage)
	if err != nil {
		return nil, err
	}
	if !read.Have.Any() {
		return nil, &report.Exit{Code: report.CodeTemporary, Err: &hinted{
			text: fmt.Sprintf("%s has no certificate yet, so no TLSA record can name its key", want.Name),
			hint: fmt.Sprintf("`mxcert renew %s` orders it", want.Name)}}
	}
	l := &tlsaLook{TLSALook: read, lineage: lineage}
	for _, text := range read.Warnings {
		l.findings = append(l.findings, finding.New("tlsa-state", finding.Warning, "%s", text))
	}
	return l, nil
}

// look asks every server for the records of every owner, and derives where the keys stand.
func (l *tlsaLook) look(ctx context.Context, shown []served.Result) {
	l.Look(ctx, shown)
	for _, v := range l.Facts.Views {
		if v.Err != nil {
			l.findings = append(l.findings, finding.New("tlsa-lookup", finding.Warning, "the TLSA records of %s could not be looked up: %s", v.Owner.Name(), finding.Line(v.Err)).
				Next("an error is not \"no records\": until DNS answers again, mxcert changes no key"))
		}
	}
}

// settings are those that the configuration has.
func (l *tlsaLook) settings() dane.Settings { return l.Want.DANE() }
