package setup

import (
	"cmp"
	"context"
	"fmt"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// PlanMacros finds the change that makes Exim read the files of the first target for Exim in a configuration. It returns nil if Exim reads
// them already. The error says that there is no such target, that it is more than pairs of files, or that there is no Exim on this host.
func PlanMacros(ctx context.Context, config *wanted.Host) (*EximChange, error) {
	pairs, names, err := eximTarget(config)
	if err != nil {
		return nil, err
	}
	exim, err := discover.Exim(ctx)
	if err != nil {
		return nil, fmt.Errorf("there is no Exim on this host, or it does not say what it reads (exim4 -bV): %w", err)
	}
	return PlanExim(exim, pairs, names)
}

// eximTarget returns the files of the first target for Exim, and the names of its certificate.
func eximTarget(config *wanted.Host) (pairs []deploy.Pair, names []string, err error) {
	for _, want := range config.Certificates {
		for _, place := range want.Places {
			if place.Kind != exim {
				continue
			}
			for _, t := range place.Targets {
				if t.SNIMap != "" || t.Directory != "" {
					return nil, nil, fmt.Errorf("the target for Exim of %s is more than pairs of files: mxcert renew says which lines Exim needs for it", want.Name)
				}
				pairs = append(pairs, deploy.Pair{Certificate: cmp.Or(t.Combined, t.Certificate), Key: cmp.Or(t.Combined, t.PrivateKey)})
			}
			return pairs, want.Names, nil
		}
	}
	return nil, nil, report.Usage("the configuration has no target for Exim (deploy: [{exim: …}])")
}
