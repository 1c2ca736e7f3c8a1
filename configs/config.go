package configs

import (
	"io/fs"
	"slices"
	"strings"
	"time"
)

// Config is a configuration that was read, completed with the defaults and found free of faults.
type Config struct {
	// The certificate authority and the account there.
	ACME ACME `yaml:"acme"`
	// Where the DNS records of the challenges are written; a certificate can override it.
	DNS DNS `yaml:"dns"`
	// When certificates are renewed; a certificate can override it.
	Renewal Renewal `yaml:"renewal"`
	// The certificates wanted. Files in conf.d can add to them.
	Certificates []Certificate `yaml:"certificates"`
	// Absolute path of the directory that keeps accounts, keys and certificates.
	State string `yaml:"state" default:"/var/lib/mxcert"`
	// Programs to run before and after a change.
	Hooks Hooks `yaml:"hooks"`
	// Where numbers for monitoring are published. Not supported by this version.
	Metrics Metrics `yaml:"metrics"`
	// Who is told about failures. Not supported by this version.
	Notify []string `yaml:"notify"`
	// What is logged.
	Log Log `yaml:"log"`

	index       *index
	warnings    []Problem
	fingerprint string
}

// ACME says which authority issues the certificates (RFC 8555).
type ACME struct {
	// Address for mail from the authority. Optional.
	Email string `yaml:"email"`
	// Must be true: you have read the authority's terms of service and agree to them.
	AgreeTOS bool `yaml:"agree_tos"`
	// The authority: letsencrypt, letsencrypt-staging, zerossl, google, or the https URL of its directory. A list is an
	// order of preference: the next one is asked where one fails.
	//
	// After Load these are URLs.
	Directories []string `yaml:"directory,single" default:"letsencrypt"`
	// Name of a certificate profile that the authority advertises. Empty for its default.
	Profile string `yaml:"profile"`
	// Common name of an issuer or root, such as ISRG Root X1, that the chain should lead to where the authority offers
	// several chains. Empty for its default chain.
	PreferredChain string `yaml:"preferred_chain"`
	// External account binding, where the authority asks for it (RFC 8555, section 7.3.4). With several authorities, a
	// list in which each names its directory.
	EAB []EAB `yaml:"eab,single"`
	// Absolute path of a PEM file with roots to trust for the authority's own HTTPS. Empty for those of the system.
	CAFile string `yaml:"ca_file"`
	// Absolute path of a PEM file; where set, an issued chain must lead to one of these roots.
	RootsFile string `yaml:"roots_file"`
}

// EAB ties the account to one that exists at the authority (RFC 8555, section 7.3.4).
type EAB struct {
	// Key identifier that the authority gave you.
	KID string `yaml:"kid"`
	// The MAC key that belongs to it, base64url as the authority shows it. Use a reference such as cred:eab.
	HMACKey Secret `yaml:"hmac_key"`
	// The authority that gave them, written as in acme.directory. Empty for any that asks for a binding.
	//
	// After Load this is a URL.
	Directory string `yaml:"directory"`
}

// Renewal says when certificates are renewed.
type Renewal struct {
	// Maintenance windows in this host's time zone, such as "02:00-05:00" or "Sat,Sun 01:00-05:00". Empty for any time.
	// A certificate that is in danger of expiring is renewed outside of them too.
	Window []string `yaml:"window,single"`
	// Spans are the windows, in the same order.
	Spans []Span `yaml:"-"`
}

// DNS says how the records of dns-01 challenges are written and seen (RFC 8555, section 8.4).
type DNS struct {
	// Name of the DNS provider; `mxcert providers` lists them.
	Provider string `yaml:"provider"`
	// Settings of the provider, under the names of its environment variables. Private to this provider.
	Env map[string]Secret `yaml:"env"`
	// Resolvers to ask, as IP address with an optional port. Empty for those of the system.
	Resolvers []string `yaml:"resolvers"`
	// When a record counts as visible.
	Propagation Propagation `yaml:"propagation"`
}

// Propagation says when a challenge record counts as visible.
type Propagation struct {
	// How long to wait for it.
	Timeout time.Duration `yaml:"timeout" default:"5m"`
	// How many of the zone's name servers must answer with it.
	Require string `yaml:"require" default:"all" enum:"all quorum none"`
}

// Certificate is one lineage: names, keys, and where the result goes.
type Certificate struct {
	// Short name of this certificate, for commands, paths and reports: lower-case letters, digits, dot, underscore,
	// hyphen.
	Name string `yaml:"name"`
	// Host names in the certificate; the first is the name that senders use.
	//
	// After Load these are lower-case A-labels without a trailing dot.
	Domains []string `yaml:"domains"`
	// Mail domains whose MX host names are added. Not supported by this version.
	MailDomains []string `yaml:"mail_domains"`
	// Key types; a certificate is issued for each.
	Keys []string `yaml:"keys" default:"ec256" enum:"ec256 ec384 rsa2048 rsa3072 rsa4096"`
	// Keep the private key at a renewal.
	ReuseKey bool `yaml:"reuse_key" default:"true"`
	// Overrides the dns section for this certificate, setting by setting.
	//
	// After Load it is merged with that section.
	DNS DNS `yaml:"dns" default:"-"`
	// Overrides the renewal section for this certificate.
	//
	// After Load it is merged with that section.
	Renewal Renewal `yaml:"renewal"`
	// TLSA records (RFC 7672).
	DANE DANE `yaml:"dane"`
	// Where the certificate and its key are written.
	Deploy []Target `yaml:"deploy"`
	// How it is proved that the certificate is served.
	Verify Verify `yaml:"verify"`
}

// DANE says what is done about TLSA records (RFC 7672). Only mode off is supported by this version.
type DANE struct {
	// What to do about TLSA records.
	Mode string `yaml:"mode" default:"off" enum:"off check gate publish"`
	// Ports whose TLSA records matter.
	Ports []int `yaml:"ports" default:"25"`
}

// Target is one place where a certificate is written, and the unit that is then reloaded.
type Target struct {
	// Kind is exim, postfix, dovecot or files.
	Kind string `yaml:"-"`
	// Absolute path for the certificate chain; {name} and {key} are filled in. With several keys, a list in their
	// order is possible.
	Certificate []string `yaml:"certificate,single"`
	// Absolute path for the private key, in the same manner.
	PrivateKey []string `yaml:"private_key,single"`
	// Absolute path for one file with both key and chain, in the same manner. With sni_map, {serial} for exim.
	Combined string `yaml:"combined"`
	// Absolute path of a symbolic link that mxcert makes, to a directory with fullchain.pem, privkey.pem and combined.pem
	// of one time. The directories lie beside it, in a directory of the same name with .generations behind it.
	Directory string `yaml:"directory"`
	// Absolute path of a map from the names of the certificate to the file to use, which other certificates may share.
	// For exim it names combined files with {serial} in their path; for postfix it is compiled, and the type of table can
	// stand in front: hash:/etc/postfix/sni.
	SNIMap string `yaml:"sni_map"`
	// The systemd unit to reload. Default for exim: exim4.service, for postfix: postfix.service (the instance
	// postfix@-.service, where there is one), for dovecot: dovecot.service; for files nothing is reloaded without it.
	Unit string `yaml:"unit"`
	// Owner of the files, a name or a number in quotes. Without it, a file that is replaced keeps its owner.
	Owner string `yaml:"owner"`
	// Group of the files, in the same manner.
	Group string `yaml:"group"`
	// Mode of the files, four octal digits; others must have no access. Without it, a file that is replaced keeps its
	// mode, and a new one gets 0640.
	Mode fs.FileMode `yaml:"mode"`
	// When the unit is reloaded. Default: always, and never where there is no unit. auto is for exim and files: Postfix and
	// Dovecot do not notice changed files.
	Reload string `yaml:"reload" enum:"always auto never"`
	// Deploy even if the mail server on this host says that it reads other files.
	Unchecked bool `yaml:"unchecked"`
}

// Verify says where the certificate must be seen before it counts as in service.
type Verify struct {
	// Endpoints as host:port where the certificate is served. An empty list says that nothing on this host serves it.
	Endpoints []string `yaml:"endpoints"`
	// EndpointsSet is false where the configuration has no endpoints: the caller chooses.
	EndpointsSet bool `yaml:"-"`
	// How long to wait until every endpoint shows the new certificate.
	Timeout time.Duration `yaml:"timeout" default:"90s"`
}

// Hooks says which programs are run around a change.
type Hooks struct {
	// Absolute path of the directory with pre.d, deploy.d, post.d and fail.d.
	Directory string `yaml:"directory" default:"/etc/mxcert/hooks"`
	// How long one program may take.
	Timeout time.Duration `yaml:"timeout" default:"60s"`
}

// Metrics says where numbers for monitoring go. Not supported by this version.
type Metrics struct {
	// Address to listen on for /metrics.
	Listen string `yaml:"listen"`
	// Path of a file for the textfile collector of node_exporter.
	Textfile string `yaml:"textfile"`
}

// Log says what is logged.
type Log struct {
	// The least important level that is logged.
	Level string `yaml:"level" default:"info" enum:"debug info warn error"`
}

// Certificate returns the certificate of that name.
func (c *Config) Certificate(name string) (Certificate, bool) {
	i := slices.IndexFunc(c.Certificates, func(cert Certificate) bool { return cert.Name == name })
	if i < 0 {
		return Certificate{}, false
	}
	return c.Certificates[i], true
}

// Files returns every file that was read: the main file first, then those of conf.d in name order.
func (c *Config) Files() []string { return c.index.files() }

// Fingerprint identifies the content of all files that were read: it changes with every edit, a comment included, and does not
// depend on where the files lie.
func (c *Config) Fingerprint() string { return c.fingerprint }

// Warnings returns what is allowed but suspicious, in the order of the files: also each secret that stands in a file itself.
// secret reports whether a variable of a DNS provider holds one; nil means that each of them may.
func (c *Config) Warnings(secret func(provider, variable string) bool) []Problem {
	known := newSecrets(secret)
	list, _ := c.index.finish(slices.DeleteFunc(slices.Clone(c.warnings), func(p Problem) bool {
		return p.about != variable{} && !known.holds(p.about)
	}))
	return list
}

// At returns a Problem at the setting with that path, for example "certificates[0].dns.provider", where
// certificates are counted as in Config. File, position and line are filled in; the caller adds Message and Hint.
// Where the files do not have the setting, the position is that of the nearest section around it.
func (c *Config) At(path string) Problem { return c.index.problem(path) }

// Forget lets go of the text of the files and of where the settings stand in it, which is more than the settings need
// themselves. At, Files and Warnings know nothing afterwards.
func (c *Config) Forget() { c.index, c.warnings = &index{}, nil }

// Paths returns the paths for key type key, the i-th of the certificate's keys, with {name} and {key} filled in; {serial}
// stays. A path that the target does not have is "".
func (t Target) Paths(name, key string, i int) (cert, privkey, combined string) {
	fill := placeholders(name, key)
	return fill.Replace(pick(t.Certificate, i)), fill.Replace(pick(t.PrivateKey, i)), fill.Replace(t.Combined)
}

// LinkPath returns the path of the directory setting in the same manner.
func (t Target) LinkPath(name, key string) string {
	return placeholders(name, key).Replace(t.Directory)
}

func placeholders(name, key string) *strings.Replacer {
	return strings.NewReplacer("{name}", name, "{key}", key)
}

// pick chooses from a list in the order of the keys; a single template serves all of them.
func pick(list []string, i int) string {
	switch {
	case len(list) == 1:
		return list[0]
	case i < len(list):
		return list[i]
	}
	return ""
}
