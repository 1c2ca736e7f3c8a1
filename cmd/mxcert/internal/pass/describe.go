package pass

import (
	"fmt"
	"slices"

	"mxcert/acme/bundle"
	"mxcert/acme/issued"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/served"
)

// Describe reports what is wanted and what is issued: names, certificates, files and the next renewal.
func Describe(want wanted.Certificate, have *issued.Lineage) report.Certificate {
	r := report.New(want.Name, want.Names)
	for i, key := range want.Keys {
		b := have.Bundles[i]
		if b == nil {
			continue
		}
		if why := have.Revoked(key); why != "" {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the %s certificate with serial %s has to be replaced: %s", key, b.Serial(), why))
		}
		r.Keys = append(r.Keys, keyReport(key, b))
		if renew := have.RenewalTime(i, want.Windows).UTC(); r.NextRenewal == nil || renew.Before(*r.NextRenewal) {
			r.NextRenewal = &renew
		}
		if have.Record.Slot(key).RolledBack {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the earlier %s certificate stays in service, because somebody rolled back, until it must be renewed at %s; mxcert deploy %s goes forward to the newest",
				key, report.Minute(have.RenewalTime(i, want.Windows)), want.Name))
		}
	}
	r.Files = append(r.Files, files(want, have.Bundles)...)
	r.Missing = missing(want, have)
	return r
}

// missing lists the wanted names that a current certificate does not have; none before there is a certificate.
func missing(want wanted.Certificate, have *issued.Lineage) (names []string) {
	for _, b := range have.Bundles {
		if b == nil {
			continue
		}
		for _, name := range want.Names {
			covered := slices.Contains(b.Leaf().DNSNames, name) || b.Leaf().VerifyHostname(name) == nil
			if !covered && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func keyReport(key bundle.KeyType, b *bundle.Bundle) report.Key {
	leaf := b.Leaf()
	return report.Key{Key: string(key), Serial: b.Serial(), NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), Issuer: leaf.Issuer.CommonName, SPKI: b.SPKI()}
}

// files lists the paths of all places with the serial numbers of the current certificates. It lists each path once, because certificates
// can share an SNI map.
func files(want wanted.Certificate, bundles []*bundle.Bundle) []string {
	var once []string
	for i := range want.Keys {
		for _, place := range want.Places {
			for _, path := range place.Targets[i].Places(bundles[i]) {
				if !slices.Contains(once, path) {
					once = append(once, path)
				}
			}
		}
	}
	return once
}

func endpointReports(results []served.Result) []report.Endpoint {
	list := make([]report.Endpoint, len(results))
	for i, r := range results {
		list[i] = report.Endpoint{Address: r.Address, ServerName: r.ServerName, Key: r.Key, Serial: r.Serial, Matches: r.Matches, SeenAt: r.At}
		if r.Err != nil {
			list[i].Error, list[i].Kind, list[i].Hint = r.Err.Error(), report.KindOf(r.Err), report.HintOf(r.Err)
		}
	}
	return list
}
