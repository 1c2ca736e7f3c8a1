package pass

import (
	"fmt"

	"mxcert/acme/bundle"
	"mxcert/acme/issued"
)

// warnOfNewName warns before the first order of a certificate if another one, which the configuration no longer names, has the same names:
// somebody has probably renamed it. The key belongs to the old name, so the new one gets another, and TLSA records no longer fit.
func (p *pass) warnOfNewName(key bundle.KeyType) {
	if p.have.Record.Slot(key).Current != "" {
		return
	}
	names, err := p.Store.Lineages()
	if err != nil {
		return // the order finds out whether the state can be used
	}
	for _, name := range names {
		if _, configured := p.Host.Certificate(name); configured {
			continue
		}
		record, _, err := p.Store.Lineage(name).Look()
		if err != nil {
			continue
		}
		g, err := p.Store.Lineage(name).Generation(record.Slot(key).Current)
		if err == nil && issued.SameNames(g.Names, p.want.Names) {
			p.warn(fmt.Sprintf("%s has the names of %s, which the configuration no longer names, and gets a new %s key: TLSA records of the old key (3 1 1) will not fit; "+
				"to keep the key, call the certificate %s again", p.want.Name, name, key, name))
		}
	}
}
