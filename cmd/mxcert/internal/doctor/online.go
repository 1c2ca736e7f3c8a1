package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// onlineTime is how long the records may need until all name servers show them. It is shorter than the command's own time, so that a daemon
// that makes this test still tells the command why it fails.
const onlineTime = 80 * time.Second

// rehearsed has each DNS account of a certificate create and remove a record for each name that it proves: this alone shows what an order
// will meet. What fails for an optional name only is a warning, because an order leaves the name out.
func rehearsed(ctx context.Context, want wanted.Certificate, resolver *resolve.Resolver) (found []finding.Finding) {
	accounts := want.Accounts(resolver)
	shares, err := accounts.Divide(dnsprovider.Challenges(ctx, resolver, want.Required()))
	for _, f := range faults(err, "see dns.zones of the configuration") {
		found = append(found, called("online", f))
	}
	for _, share := range shares {
		f := called("online", well("%s created a TXT record for %s, all name servers showed it, and it is removed", share, strings.Join(share.Domains(), ", ")))
		if want.Require == resolve.None {
			f.Message = fmt.Sprintf("%s created a TXT record for %s and removed it; nobody looked for it, because dns.propagation.require is none", share, strings.Join(share.Domains(), ", "))
		}
		if err := rehearse(ctx, want, share, resolver); err != nil {
			f = called("online", bad("%s", report.OneLine(err.Error())).Next(report.HintOf(err)))
		}
		found = append(found, f.About(share.String()))
	}
	optional, _ := accounts.Divide(dnsprovider.Challenges(ctx, resolver, want.Optional)) // the test of the provider has named what no account makes
	for _, share := range optional {
		if err := rehearse(ctx, want, share, resolver); err != nil {
			names := strings.Join(share.Domains(), ", ")
			found = append(found, called("online", doubtful("%s; this concerns optional names only (%s): an order that fails because of one leaves it out", report.OneLine(err.Error()), names).
				About(share.String()).Next(report.HintOf(err))))
		}
	}
	return found
}

// rehearse makes and removes the records of a share. It gives up early enough to say why.
func rehearse(ctx context.Context, want wanted.Certificate, share dnsprovider.Share, resolver *resolve.Resolver) error {
	solver, err := share.Solver()
	if err != nil {
		return err
	}
	patience := want.Patience
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, max(time.Second, time.Until(deadline)-5*time.Second))
	}
	return dnsprovider.Rehearse(ctx, solver, resolver, share.Domains(), want.Require, patience, nil)
}
