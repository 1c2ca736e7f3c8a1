// Package wanted translates a configuration, once, into what each certificate wants. That is the first of the four truths that mxcert
// compares: wanted, issued, deployed and served.
//
// A [Certificate] is a value: it does not change, and you can look at it without a pass. Only [Certificate.Solver],
// [Host.Authorities] and [Certificate.Endpoints] read secrets or use the network, each time they are called.
//
// Not supported yet: names that are discovered from MX records.
package wanted

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/resolve"
	"mxcert/acme/schedule"
	"mxcert/configs"
	"mxcert/deploy"
)

// Host is what the configuration of this host wants.
type Host struct {
	Certificates []Certificate
	Directories  []string       // URLs of the CAs' directories, in order of preference
	State        string         // path of the state directory
	Fingerprint  string         // of the content of the configuration's files, including comments
	Roots        *x509.CertPool // of acme.roots_file: an issued chain must lead to one of them; nil if the setting is empty

	rootsID string
	acme    *configs.ACME
	secrets secrets
}

// Certificate is what one certificate wants.
type Certificate struct {
	Name        string           // of the lineage
	Names       []string         // DNS names in the certificate; the first is the one that senders use
	Keys        []bundle.KeyType // a certificate is issued for each
	ReuseKey    bool             // keep the private key at a renewal
	Profile     string           // of the CA; "" for the CA's default
	Directories []string         // URLs of CAs in order of preference
	Windows     []schedule.Span  // maintenance windows; renewals move into them
	Roots       *x509.CertPool   // see Host.Roots
	RootsID     string           // identifies their content; "" if Roots is nil

	Places []Place // where certificates go, in the order of the configuration

	Provider string          // of DNS
	Require  resolve.Require // on which name servers challenge records must be visible
	Patience time.Duration   // how long to wait for that

	VerifyTimeout time.Duration // how long servers may take to show a new certificate

	HookDirectory string
	HookTimeout   time.Duration

	source  configs.Certificate
	acme    *configs.ACME
	secrets secrets
}

// Place is one entry of `deploy`: files of a mail server, and the unit that is then reloaded.
type Place struct {
	Kind    string          // exim, postfix, dovecot or files
	Unit    string          // of systemd; "" if nothing is reloaded
	Reload  Reload          // when the unit is reloaded
	Targets []deploy.Target // one for each key type, in the order of Certificate.Keys
}

// Reload says when a unit is reloaded.
type Reload string

// The ways to reload.
const (
	Always Reload = "always" // after each change
	Auto   Reload = "auto"   // only if the server does not notice changed files
	Never  Reload = "never"  // the server notices changed files, or a hook reloads it
)

// From translates a configuration. It fails if acme.roots_file cannot be used.
func From(config *configs.Config) (*Host, error) {
	roots, id, err := readRoots("acme.roots_file", config.ACME.RootsFile)
	h := &Host{Directories: config.ACME.Directories, State: config.State, Fingerprint: config.Fingerprint(), Roots: roots, rootsID: id, acme: &config.ACME, secrets: secrets{}}
	first := firstOfMaps(config)
	for _, c := range config.Certificates {
		h.Certificates = append(h.Certificates, h.certificate(config, c, first))
	}
	return h, err
}

func (h *Host) certificate(config *configs.Config, c configs.Certificate, first map[string]string) Certificate {
	w := Certificate{Name: c.Name, Names: c.Domains, ReuseKey: c.ReuseKey, Profile: config.ACME.Profile, Directories: config.ACME.Directories,
		Roots: h.Roots, RootsID: h.rootsID, Provider: c.DNS.Provider, Require: resolve.Require(c.DNS.Propagation.Require),
		Patience: c.DNS.Propagation.Timeout, VerifyTimeout: c.Verify.Timeout, HookDirectory: config.Hooks.Directory, HookTimeout: config.Hooks.Timeout,
		source: c, acme: h.acme, secrets: h.secrets}
	for _, key := range c.Keys {
		w.Keys = append(w.Keys, bundle.KeyType(key))
	}
	for _, span := range c.Renewal.Spans {
		w.Windows = append(w.Windows, schedule.Span(span))
	}
	for _, t := range c.Deploy {
		place := Place{Kind: t.Kind, Unit: t.Unit, Reload: Reload(t.Reload)}
		for i, key := range c.Keys {
			place.Targets = append(place.Targets, target(t, c.Name, key, i, first[t.SNIMap] == c.Name))
		}
		w.Places = append(w.Places, place)
	}
	return w
}

// Fingerprint identifies the settings of the certificate: if it differs, an edit may have fixed what failed. Comments, and the
// settings of other certificates, do not matter.
func (c Certificate) Fingerprint() string {
	env := map[string]string{}
	for name, value := range c.source.DNS.Env {
		env[name] = string(value) // as the file has it: a Secret hides its content when it is printed
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v\n%+v\n%v\n%s %s", *c.acme, c.source, env, c.HookDirectory, c.HookTimeout))
	return hex.EncodeToString(sum[:8])
}

// target returns a place for the i-th key type.
func target(t configs.Target, name, key string, i int, isDefault bool) deploy.Target {
	certificate, privateKey, combined := t.Paths(name, key, i)
	return deploy.Target{Kind: t.Kind, Certificate: certificate, PrivateKey: privateKey, Combined: combined, Directory: t.LinkPath(name, key),
		SNIMap: t.SNIMap, Default: isDefault, Owner: t.Owner, Group: t.Group, Mode: t.Mode, Unit: t.Unit, Unchecked: t.Unchecked}
}

// firstOfMaps finds, for each SNI map, the first certificate of the configuration that is deployed there: clients that send no
// name get it.
func firstOfMaps(config *configs.Config) map[string]string {
	first := map[string]string{}
	for _, c := range config.Certificates {
		for _, t := range c.Deploy {
			if _, known := first[t.SNIMap]; !known && t.SNIMap != "" {
				first[t.SNIMap] = c.Name
			}
		}
	}
	return first
}

// Certificate returns the certificate with the given name.
func (h *Host) Certificate(name string) (Certificate, bool) {
	i := slices.IndexFunc(h.Certificates, func(c Certificate) bool { return c.Name == name })
	if i < 0 {
		return Certificate{}, false
	}
	return h.Certificates[i], true
}

// Choose returns the certificates of the given names, or all if names is empty. The error lists the certificates of the
// configuration.
func (h *Host) Choose(names []string) ([]Certificate, error) {
	if len(names) == 0 {
		return h.Certificates, nil
	}
	var list []Certificate
	for _, name := range names {
		c, ok := h.Certificate(name)
		if !ok {
			known := make([]string, len(h.Certificates))
			for i, c := range h.Certificates {
				known[i] = c.Name
			}
			return nil, fmt.Errorf("the configuration has no certificate %q; it has: %s", name, strings.Join(known, ", "))
		}
		list = append(list, c)
	}
	return list, nil
}

// Units lists the units that the host reloads, each once, sorted.
func (h *Host) Units() []string {
	units := []string{}
	for _, c := range h.Certificates {
		units = append(units, c.Units(Always, Auto)...)
	}
	slices.Sort(units)
	return slices.Compact(units)
}

// Units lists the units of places with one of the given ways to reload, each once, in the order of the configuration.
func (c Certificate) Units(ways ...Reload) []string {
	var units []string
	for _, p := range c.Places {
		if p.Unit != "" && slices.Contains(ways, p.Reload) && !slices.Contains(units, p.Unit) {
			units = append(units, p.Unit)
		}
	}
	return units
}

// Targets lists the targets of all places, first those of the first key type.
func (c Certificate) Targets() []deploy.Target {
	var targets []deploy.Target
	for i := range c.Keys {
		for _, p := range c.Places {
			targets = append(targets, p.Targets[i])
		}
	}
	return targets
}

// Jobs pairs bundles, in the order of the keys, with their targets. A nil bundle gets no jobs.
func (c Certificate) Jobs(bundles []*bundle.Bundle) []deploy.Job {
	var jobs []deploy.Job
	for i, b := range bundles {
		for _, p := range c.Places {
			if b != nil {
				jobs = append(jobs, deploy.Job{Bundle: b, Target: p.Targets[i], Names: c.Names, Roots: c.Roots})
			}
		}
	}
	return jobs
}

// Has reports whether any place is of one of the kinds.
func (c Certificate) Has(kinds ...string) bool {
	return slices.ContainsFunc(c.Places, func(p Place) bool { return slices.Contains(kinds, p.Kind) })
}

// ServerName returns the name to send in SNI: the first, which senders use. A client cannot ask for a wildcard, so some host
// below it stands for it.
func (c Certificate) ServerName() string { return clientName(c.Names[0]) }

// ClientNames returns the names that clients may ask for, in the order of Names: for a wildcard, some host below it.
func (c Certificate) ClientNames() []string {
	names := make([]string, len(c.Names))
	for i, name := range c.Names {
		names[i] = clientName(name)
	}
	return names
}

func clientName(name string) string {
	if rest, wild := strings.CutPrefix(name, "*."); wild {
		return "mx." + rest
	}
	return name
}

// HostNames returns the names without wildcards: those that a sender can connect to.
func (c Certificate) HostNames() []string {
	return slices.DeleteFunc(slices.Clone(c.Names), func(name string) bool { return strings.HasPrefix(name, "*") })
}
