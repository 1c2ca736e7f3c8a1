// Package wanted translates a configuration, once, into what each certificate wants. That is the first of the four truths that mxcert
// compares: wanted, issued, deployed and served.
//
// A [Certificate] is a value: it does not change, and you can look at it without a pass. Only [Certificate.Accounts],
// [Certificate.Publisher], [Host.Authorities] and [Certificate.Endpoints] read secrets or use the network, each time they are called.
//
// Names that looks at MX records have found are no part of the configuration: [Certificate.WithFound] adds them.
package wanted

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/netip"
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
	Page         string         // path of the page that passes write; "" if there is none

	ReportDirectory string // where reports of senders arrive (RFC 8460); "" if mxcert reads none by itself
	Metrics         Metrics

	Fleet *Fleet // nil if this host is in none

	rootsID  string
	ct       configs.CT
	acme     *configs.ACME
	secrets  *secrets
	zones    *resolve.Zones // what the resolvers of all certificates share
	channels []configs.Channel
	deputy   Deputy // see SendAsRoot
}

// Certificate is what one certificate wants.
type Certificate struct {
	Name        string           // of the lineage
	Names       []string         // DNS names in the certificate, the optional ones last; the first is the one that senders use
	Optional    []string         // those of Names that are left out while they cannot be proven
	Found       []Found          // those of Optional that looks at MX records have found
	Keys        []bundle.KeyType // a certificate is issued for each
	ReuseKey    bool             // keep the private key at a renewal
	Profile     string           // of the CA; "" for the CA's default
	Directories []string         // URLs of CAs in order of preference
	Windows     []schedule.Span  // maintenance windows; renewals move into them
	Roots       *x509.CertPool   // see Host.Roots
	RootsID     string           // identifies their content; "" if Roots is nil

	MailDomains     []string      // whose MX hosts are looked at
	InFleet         bool          // other hosts may want names, too
	ConfirmAfter    time.Duration // how far apart two looks must be that agree
	PublicAddresses []netip.Addr  // of this host, beside those of its interfaces

	Places []Place // where certificates go, in the order of the configuration

	Require  resolve.Require // on which name servers challenge records must be visible
	Patience time.Duration   // how long to wait for that

	VerifyTimeout time.Duration // how long servers may take to show a new certificate

	HookDirectory string
	HookTimeout   time.Duration

	staples Staples
	source  configs.Certificate
	acme    *configs.ACME
	secrets *secrets
	zones   *resolve.Zones
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
	h := &Host{ReportDirectory: config.TLSRPT.Directory, Directories: config.ACME.Directories, State: config.State, Fingerprint: config.Fingerprint(), Roots: roots, rootsID: id, acme: &config.ACME, secrets: &secrets{kept: map[configs.Secret]string{}}, zones: new(resolve.Zones), ct: config.CT, Metrics: metricsOf(config), channels: config.Notify, Page: config.Report.HTML}
	h.Fleet = fleetOf(config, h.secrets)
	first := firstOfMaps(config)
	for _, c := range config.Certificates {
		h.Certificates = append(h.Certificates, h.certificate(config, c, first))
	}
	return h, err
}

func (h *Host) certificate(config *configs.Config, c configs.Certificate, first map[string]string) Certificate {
	w := Certificate{Name: c.Name, Names: slices.Concat(c.Domains, c.Optional), Optional: c.Optional, ReuseKey: c.ReuseKey, Profile: config.ACME.Profile, Directories: config.ACME.Directories,
		Roots: h.Roots, RootsID: h.rootsID, Require: resolve.Require(c.DNS.Propagation.Require),
		Patience: c.DNS.Propagation.Timeout, VerifyTimeout: c.Verify.Timeout, HookDirectory: config.Hooks.Directory, HookTimeout: config.Hooks.Timeout,
		MailDomains: c.MailDomains, ConfirmAfter: c.MailDomainsConfirm, PublicAddresses: PublicAddresses(config), InFleet: config.Fleet.On(),
		source: c, acme: h.acme, secrets: h.secrets, zones: h.zones}
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
	source := c.source
	source.DNS.Zones = nil // where they stand in the file does not matter
	return fingerprint("%+v\n%+v\n%v\n%v\n%s %s", *c.acme, source, c.variables(), literal(publisherSecrets(source.DANE.Publisher)), c.HookDirectory, c.HookTimeout)
}

// ProofFingerprint identifies the settings with which names are proven: those of DNS and of the CA. If it differs, an edit may have fixed
// what kept a name from being proven. Which names there are does not matter.
func (c Certificate) ProofFingerprint() string {
	dns := c.source.DNS
	dns.Zones = nil
	return fingerprint("%+v\n%+v\n%v", *c.acme, dns, c.variables())
}

// variables returns the variables of all DNS accounts as the file has them.
func (c Certificate) variables() []string {
	list := []string{fmt.Sprint(literal(c.source.DNS.Env))}
	for _, zone := range c.source.DNS.Zones {
		list = append(list, fmt.Sprint(zone.Name, " ", zone.Provider, " ", literal(zone.Env)))
	}
	return list
}

func fingerprint(format string, values ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, format, values...))
	return hex.EncodeToString(sum[:8])
}

// literal returns an environment as the file has it: a Secret hides its content when it is printed.
func literal(env map[string]configs.Secret) map[string]string {
	out := make(map[string]string, len(env))
	for name, value := range env {
		out[name] = string(value)
	}
	return out
}

// target returns a place for the i-th key type.
func target(t configs.Target, name, key string, i int, isDefault bool) deploy.Target {
	certificate, privateKey, combined := t.Paths(name, key, i)
	return deploy.Target{Kind: t.Kind, Certificate: certificate, PrivateKey: privateKey, Combined: combined, Directory: t.LinkPath(name, key),
		OCSP: t.StaplePath(name, key), SNIMap: t.SNIMap, Default: isDefault, Owner: t.Owner, Group: t.Group, Mode: t.Mode, Unit: t.Unit, Unchecked: t.Unchecked}
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

// Choose returns the certificates of the given names, each once, or all if names is empty. The error lists the certificates of the
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
		if !slices.ContainsFunc(list, func(l Certificate) bool { return l.Name == name }) {
			list = append(list, c)
		}
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

// ReloadedByHook reports whether a server of some place is not reloaded by its unit, so that a deploy hook may be what reloads it.
func (c Certificate) ReloadedByHook() bool {
	return len(c.Places) == 0 || slices.ContainsFunc(c.Places, func(p Place) bool { return p.Unit == "" || p.Reload == Never })
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

// Jobs pairs bundles, in the order of the keys, with their targets. A nil bundle gets no jobs. If two servers read the same files, the first
// place writes them.
func (c Certificate) Jobs(bundles []*bundle.Bundle) []deploy.Job {
	var jobs []deploy.Job
	for i, b := range bundles {
		for j, p := range c.Places {
			if b != nil && !p.writtenBy(c.Places[:j]) {
				jobs = append(jobs, deploy.Job{Bundle: b, Target: p.Targets[i], Names: c.NamesOf(b), Roots: c.Roots, Staple: c.StapleOf(b)})
			}
		}
	}
	return jobs
}

// writtenBy reports whether one of the places has the same files.
func (p Place) writtenBy(places []Place) bool {
	return slices.ContainsFunc(places, func(other Place) bool {
		return slices.EqualFunc(p.Targets, other.Targets, func(a, b deploy.Target) bool {
			return a.Certificate == b.Certificate && a.PrivateKey == b.PrivateKey && a.Combined == b.Combined && a.Directory == b.Directory && a.SNIMap == "" && b.SNIMap == ""
		})
	})
}

// Has reports whether any place is of one of the kinds.
func (c Certificate) Has(kinds ...string) bool {
	return slices.ContainsFunc(c.Places, func(p Place) bool { return slices.Contains(kinds, p.Kind) })
}

// MailPorts lists the ports on which this host serves mail beside 25: those of submission, and those of Dovecot if it gets the certificate.
func (c Certificate) MailPorts() []int {
	ports := []int{465, 587}
	if c.Has("dovecot") {
		ports = append(ports, 110, 143, 993, 995)
	}
	return ports
}

// Kinds lists the kinds of the places, each once, in the order of the configuration.
func (c Certificate) Kinds() (kinds []string) {
	for _, p := range c.Places {
		if !slices.Contains(kinds, p.Kind) {
			kinds = append(kinds, p.Kind)
		}
	}
	return kinds
}

// Only returns the certificate with the places of some kinds only.
func (c Certificate) Only(kinds ...string) Certificate {
	c.Places = slices.DeleteFunc(slices.Clone(c.Places), func(p Place) bool { return !slices.Contains(kinds, p.Kind) })
	return c
}

// ServerName returns the name to send in SNI: the first, which senders use. It is a required one, so an endpoint never has to show a
// certificate for a name that is left out. A client cannot ask for a wildcard, so some host
// below it stands for it.
func (c Certificate) ServerName() string { return clientName(c.Names[0]) }

// Required returns the names without the optional ones. No certificate lacks one of them.
func (c Certificate) Required() []string {
	return slices.DeleteFunc(slices.Clone(c.Names), c.IsOptional)
}

// IsOptional reports whether a name is left out while it cannot be proven.
func (c Certificate) IsOptional(name string) bool { return slices.Contains(c.Optional, name) }

// ClientNames returns the names for which the mail server must have the certificate, in the order of Names: for a wildcard, some host
// below it. The optional names are not among them, because the certificate may lack them.
func (c Certificate) ClientNames() []string {
	names := c.Required()
	for i, name := range names {
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

// HostNames returns the names without wildcards that a sender can connect to and that every certificate has: not the optional ones.
func (c Certificate) HostNames() []string {
	return slices.DeleteFunc(c.Required(), func(name string) bool { return strings.HasPrefix(name, "*") })
}
