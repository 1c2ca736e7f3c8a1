package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/configs"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

func (p *pass) keys() []bundle.KeyType {
	keys := make([]bundle.KeyType, len(p.certificate.Keys))
	for i, k := range p.certificate.Keys {
		keys[i] = bundle.KeyType(k)
	}
	return keys
}

func (p *pass) haveBundle() bool {
	return slices.ContainsFunc(p.bundles, func(b *bundle.Bundle) bool { return b != nil })
}

// targets are all places of the certificate, for every key type.
func (p *pass) targets() []deploy.Target {
	var targets []deploy.Target
	for i := range p.certificate.Keys {
		for _, t := range p.certificate.Deploy {
			targets = append(targets, p.target(t, i))
		}
	}
	return targets
}

// target is one place for the i-th key type.
func (p *pass) target(t configs.Target, i int) deploy.Target {
	key := p.certificate.Keys[i]
	certificate, privateKey, combined := t.Paths(p.certificate.Name, key, i)
	return deploy.Target{Kind: t.Kind, Certificate: certificate, PrivateKey: privateKey, Combined: combined, Directory: t.LinkPath(p.certificate.Name, key),
		SNIMap: t.SNIMap, Default: p.firstIn(t.SNIMap), Owner: t.Owner, Group: t.Group, Mode: t.Mode, Remembered: p.remembered()}
}

// firstIn reports whether this certificate is the first of the configuration that a map names: the one for clients that ask
// for no name.
func (p *pass) firstIn(sniMap string) bool {
	if sniMap == "" || p.world == nil || p.config == nil {
		return false
	}
	for _, c := range p.config.Certificates {
		if slices.ContainsFunc(c.Deploy, func(t configs.Target) bool { return t.SNIMap == sniMap }) {
			return c.Name == p.certificate.Name
		}
	}
	return false
}

// remembered is what the files of this certificate were given before.
func (p *pass) remembered() map[string]deploy.Access {
	known := make(map[string]deploy.Access, len(p.record.Files))
	for path, f := range p.record.Files {
		known[path] = deploy.Access{Mode: f.Mode, UID: f.UID, GID: f.GID}
	}
	return known
}

// remember notes who may use the files, and tells of those that an earlier configuration named: nobody renews them any more,
// and there may be a key among them.
func (p *pass) remember() {
	found := map[string]deploy.Access{}
	if local, ok := p.plan.(*deploy.Plan); ok { // a helper that writes the files remembers for itself
		found = local.Accesses()
	}
	before := p.record.Files
	p.record.Files = map[string]state.File{}
	for _, t := range p.targets() {
		for _, path := range t.Places(nil) {
			if strings.Contains(path, "{serial}") {
				continue // those go by themselves
			}
			f := before[path]
			if a, ok := found[path]; ok {
				f = state.File{Mode: a.Mode, UID: a.UID, GID: a.GID}
			}
			p.record.Files[path] = f
		}
	}
	for path, f := range before {
		if _, current := p.record.Files[path]; current {
			continue
		}
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		p.record.Files[path] = f
		p.warn(fmt.Sprintf("%s was written for this certificate, and the configuration does not name it any more: it is not renewed; remove it when nothing reads it", path))
	}
}

// jobs pairs the current bundles with their targets.
func (p *pass) jobs() []deploy.Job { return p.jobsFor(p.bundles) }

func (p *pass) jobsFor(bundles []*bundle.Bundle) []deploy.Job {
	var jobs []deploy.Job
	targets := p.targets()
	each := len(p.certificate.Deploy)
	for i, b := range bundles {
		for _, t := range targets[i*each : (i+1)*each] {
			if b != nil {
				jobs = append(jobs, deploy.Job{Bundle: b, Target: t})
			}
		}
	}
	return jobs
}

// units lists the units to reload, each once, of targets with one of the given ways.
func (p *pass) units(ways ...string) []string {
	var units []string
	for _, t := range p.certificate.Deploy {
		if t.Unit != "" && slices.Contains(ways, t.Reload) && !slices.Contains(units, t.Unit) {
			units = append(units, t.Unit)
		}
	}
	return units
}

// hasKind reports whether a target is of one of the kinds.
func (p *pass) hasKind(kinds ...string) bool {
	return slices.ContainsFunc(p.certificate.Deploy, func(t configs.Target) bool { return slices.Contains(kinds, t.Kind) })
}

// place is what a target writes for a mail server, as discover compares it: of all types of key, or of those that have a
// bundle. candidate tells where a file lies before it has its name.
func (p *pass) place(t configs.Target, bundles []*bundle.Bundle, candidate func(path string) string) discover.Place {
	place := discover.Place{Names: clientNames(p.certificate.Domains), SNIMap: t.SNIMap}
	for i := range p.certificate.Keys {
		target := p.target(t, i)
		if bundles != nil && bundles[i] == nil {
			continue
		}
		if bundles != nil {
			target.Combined = strings.ReplaceAll(target.Combined, "{serial}", bundles[i].Serial())
		}
		switch {
		case target.Directory != "":
			place.Directory = append(place.Directory, candidate(target.Directory))
		case target.Combined != "":
			place.Pairs = append(place.Pairs, discover.Combined(candidate(target.Combined)))
		default:
			place.Pairs = append(place.Pairs, discover.Pair{Certificate: candidate(target.Certificate), Key: candidate(target.PrivateKey)})
		}
	}
	return place
}

// clientNames are names that a client may ask for: of a wildcard, some host below it.
func clientNames(domains []string) []string {
	names := make([]string, len(domains))
	for i := range domains {
		names[i] = serverName(domains[i:])
	}
	return names
}

func inPlace(path string) string { return filepath.Clean(path) }
