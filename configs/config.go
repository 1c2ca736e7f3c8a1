package configs

import (
	"io/fs"
	"slices"
	"strings"
	"time"
)

// Config is a configuration after Load: complete with the defaults, and free of faults.
type Config struct {
	// The certificate authority and the account there.
	ACME ACME `yaml:"acme"`
	// Where mxcert writes the DNS records of the challenges. A certificate can override it.
	DNS DNS `yaml:"dns"`
	// When mxcert renews certificates. A certificate can override it.
	Renewal Renewal `yaml:"renewal"`
	// The certificates that you want. Files in conf.d can add more.
	Certificates []Certificate `yaml:"certificates"`
	// Absolute path of the directory where mxcert keeps accounts, keys and certificates.
	State string `yaml:"state" default:"/var/lib/mxcert"`
	// Programs that mxcert runs before and after a change.
	Hooks Hooks `yaml:"hooks"`
	// IP addresses by which senders reach this host, if it is behind NAT: MX host names with one of them are this host, as are those with
	// an address of its interfaces.
	//
	// After Load they have their shortest form.
	PublicAddresses []string `yaml:"public_addresses"`
	// Where mxcert publishes numbers for monitoring.
	Metrics Metrics `yaml:"metrics"`
	// Who gets a message when something needs a person, and when that is over.
	Notify []Channel `yaml:"notify"`
	// Certificates of our names that mxcert did not order: what the logs of certificate transparency show (RFC 9162).
	CT CT `yaml:"ct"`
	// A page that shows everything: the certificates, what senders meet, the next dates, and what happened last.
	Report Report `yaml:"report"`
	// What senders report (RFC 8460).
	TLSRPT TLSRPT `yaml:"tlsrpt"`
	// Hosts that share certificates through an etcd cluster.
	Fleet Fleet `yaml:"fleet"`
	// What mxcert logs.
	Log Log `yaml:"log"`

	index       *index
	warnings    []Problem
	fingerprint string
}

// ACME says which authority issues the certificates (RFC 8555).
type ACME struct {
	// Address for mail from the authority. Optional.
	//
	// After Load its domain is in A-labels.
	Email string `yaml:"email"`
	// Must be true: you have read the authority's terms of service and agree to them.
	AgreeTOS bool `yaml:"agree_tos"`
	// The authority: letsencrypt, letsencrypt-staging, zerossl, google, or the https URL of its directory. A list is an
	// order of preference: if one fails, mxcert asks the next.
	//
	// After Load these are URLs.
	Directories []string `yaml:"directory,single" default:"letsencrypt"`
	// Name of a certificate profile that the authority advertises. Empty: its default.
	Profile string `yaml:"profile"`
	// Common name of the issuer or root, such as ISRG Root X1, that the chain should lead to if the authority offers several
	// chains. Empty: its default chain.
	PreferredChain string `yaml:"preferred_chain"`
	// External account binding, if the authority asks for it (RFC 8555, section 7.3.4). For several authorities, write a list in
	// which each binding names its directory.
	EAB []EAB `yaml:"eab,single"`
	// How much mxcert may ask of a private authority; none lifts every limit. What is not set stays as mxcert assumes it. The limits of
	// public authorities are known, and mxcert keeps them.
	Limits Limits `yaml:"limits"`
	// Absolute path of a PEM file with roots to trust for the authority's own HTTPS. Empty: those of the system.
	CAFile string `yaml:"ca_file"`
	// Absolute path of a PEM file with roots. If it is set, an issued chain must lead to one of them.
	RootsFile string `yaml:"roots_file"`
}

// EAB ties the account to one that exists at the authority (RFC 8555, section 7.3.4).
type EAB struct {
	// Key identifier that the authority gave you.
	KID string `yaml:"kid"`
	// The MAC key that belongs to it, base64url as the authority shows it. Use a reference such as cred:eab.
	HMACKey Secret `yaml:"hmac_key"`
	// The authority that gave them, written as in acme.directory. Empty: any that asks for a binding.
	//
	// After Load this is a URL.
	Directory string `yaml:"directory"`
}

// Limits are the budget of an account at a private authority. mxcert uses each of them to the full.
type Limits struct {
	// None is set by limits: none.
	None bool `yaml:"-"`
	// Orders of the account, such as 300/3h, or none.
	Orders Rate `yaml:"orders"`
	// Certificates for new sets of names below one registered domain, such as 50/7d, or none.
	Domain Rate `yaml:"domain"`
	// Certificates for exactly the same names, such as 5/7d, or none. It stops loops.
	Names Rate `yaml:"names"`
	// Failed proofs of one name, such as 5/1h, or none.
	Failures Rate `yaml:"failures"`
}

// Rate is at most N in any window of that length.
type Rate struct {
	N    int
	Per  time.Duration
	None bool // no limit
}

// Renewal says when certificates are renewed.
type Renewal struct {
	// Maintenance windows in this host's time zone, such as "02:00-05:00" or "Sat,Sun 01:00-05:00". Empty: any time. A
	// certificate that is about to expire does not wait for a window.
	Window []string `yaml:"window,single"`
	// Spans are the windows, in the same order.
	Spans []Span `yaml:"-"`
}

// DNS says how mxcert writes the records of dns-01 challenges, and how it checks them (RFC 8555, section 8.4).
type DNS struct {
	// Name of the DNS provider; `mxcert providers` lists them.
	Provider string `yaml:"provider"`
	// Settings of the provider, under the names of its environment variables. No other provider sees them.
	Env map[string]Secret `yaml:"env"`
	// Resolvers to ask: IP addresses with an optional port, or tls://NAME@ADDRESS for one that is asked over TLS and proves with a
	// certificate of a CA that the system trusts that it is NAME. Empty: those of the system. Only a resolver that validates DNSSEC can say whether TLSA records count; its
	// word counts if it is on loopback, if it is asked over TLS, or if it is in resolvers_trusted.
	Resolvers []string `yaml:"resolvers"`
	// Resolvers that validate DNSSEC and whose word counts although they are not on loopback, because you trust the network between. They
	// are written like those of resolvers, and asked before them.
	ResolversTrusted []string `yaml:"resolvers_trusted"`
	// Zones that other accounts prove, by name. If the place of a challenge, after CNAMEs, is in one of them, its account makes the record;
	// the longest match counts. Other names go to dns.provider, which you can leave out if there are none. The zones of a certificate replace
	// those of the dns section.
	Zones []Zone `yaml:"zones" default:"-"`
	// When a record counts as visible.
	Propagation Propagation `yaml:"propagation"`
}

// Zone is a zone with the account that writes the challenge records in it. Resolvers and propagation are those of the dns section.
type Zone struct {
	// Name is its key: after Load lower-case A-labels without a trailing dot.
	Name string `yaml:"-"`
	// Name of the DNS provider of this zone.
	Provider string `yaml:"provider"`
	// Settings of this account, as in dns.env. No other account sees them, even if its provider is the same.
	Env map[string]Secret `yaml:"env"`
	// Path is where the zone stands in the configuration, for [Config.At].
	Path string `yaml:"-"`
}

// Propagation says when a challenge record counts as visible.
type Propagation struct {
	// How long to wait until the record is visible.
	Timeout time.Duration `yaml:"timeout" default:"5m"`
	// On which authoritative name servers the record must be visible: all, a quorum (more than half of the servers, on one address each), or none (do not check).
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
	// Further host names, which mxcert leaves out while they cannot be proven, and takes in again when they can.
	//
	// After Load these have the form of domains.
	Optional []string `yaml:"optional"`
	// Mail domains. mxcert asks for their MX records, and adds those MX host names that have an address of this machine, and then the
	// host's own name. It treats these names as optional. A name in domains or optional stays what it is there.
	//
	// After Load these have the form of domains.
	MailDomains []string `yaml:"mail_domains"`
	// How far apart the two looks at the MX records must be that have to agree before mxcert adds or drops a name.
	MailDomainsConfirm time.Duration `yaml:"mail_domains_confirm" default:"1h"`
	// Key types. mxcert orders a certificate for each.
	Keys []string `yaml:"keys" default:"ec256" enum:"ec256 ec384 rsa2048 rsa3072 rsa4096"`
	// Keep the private key when the certificate is renewed.
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
	// Where mxcert writes the certificate and its key.
	Deploy []Target `yaml:"deploy"`
	// How mxcert proves that the certificate is served.
	Verify Verify `yaml:"verify"`
}

// DANE says what mxcert does about TLSA records (RFC 7672).
type DANE struct {
	// What to do about TLSA records. off: nothing. check: judge them, and refuse a deployment that would break mail. gate: you publish the
	// records that `mxcert tlsa show` prints; mxcert waits until every server has them, and changes keys by itself. publish: mxcert writes the
	// records. Not set: check, wherever a name of the certificate has TLSA records.
	Mode string `yaml:"mode" enum:"off check gate publish"`
	// Ports whose TLSA records matter.
	Ports []int `yaml:"ports" default:"25"`
	// For at least this time all name servers must have a new record before mxcert serves its key. mxcert waits longer if the TTL asks for it.
	// The default is for resolvers with minimum TTLs and expired answers (RFC 8767).
	Hold time.Duration `yaml:"hold,zero" default:"24h"`
	// How old a key gets before mxcert changes it, with gate and publish. 0: mxcert never changes it unless asked.
	KeyLifetime time.Duration `yaml:"key_lifetime,zero" default:"365d"`
	// Name servers, by name or IP address, that mxcert does not wait for, although the zone or its parent names them: one that this host cannot
	// reach, or that is being retired. mxcert goes on to ask them, and shows what they answer. TLSA records that such a server gives count all the
	// same, because senders get them: mxcert serves no key that they lack. If it does not answer, mxcert does not know what senders get there.
	//
	// After Load names are lower-case A-labels without a trailing dot, and addresses have their shortest form.
	IgnoreServers []string `yaml:"ignore_servers"`
	// The service that takes the records, with publish: rfc2136 (the settings of dns and dns.zones), hook (programs in tlsa.d of
	// hooks.directory), or a section with one of powerdns, desec and cloudflare. Default: rfc2136, if the dns section uses it.
	//
	// After Load the default is filled in if mode is publish.
	Publisher Publisher `yaml:"publisher"`
	// TTL of the records that mxcert adds. Each change of keys waits for more than twice this time.
	TTL time.Duration `yaml:"ttl" default:"1h"`
}

// Publisher is a service that holds a zone with TLSA records. At most one of the sections is set.
type Publisher struct {
	// Kind is rfc2136, hook, powerdns, desec or cloudflare; "" if there is none.
	Kind string `yaml:"-"`
	// The HTTP API of a PowerDNS Authoritative Server.
	PowerDNS PowerDNS `yaml:"powerdns"`
	// deSEC (desec.io).
	DeSEC Hosted `yaml:"desec"`
	// Cloudflare.
	Cloudflare Hosted `yaml:"cloudflare"`
}

// PowerDNS is the HTTP API of a PowerDNS Authoritative Server.
type PowerDNS struct {
	// The beginning of its address, such as https://ns1.example.org:8081. Plain http is accepted for a server on this host only.
	URL string `yaml:"url"`
	// The setting api-key of the server. Use a reference such as cred:pdns.
	Key Secret `yaml:"key"`
}

// Hosted is an account at a DNS service.
type Hosted struct {
	// The API token, with the right to change the zone's records. Use a reference such as cred:NAME.
	Token Secret `yaml:"token"`
	// The beginning of the API's address, if it is not the usual one.
	URL string `yaml:"url"`
}

// Target is one place where mxcert writes a certificate, and the unit that it then reloads.
type Target struct {
	// Kind is exim, postfix, dovecot or files.
	Kind string `yaml:"-"`
	// Absolute path for the certificate chain. {name} and {key} stand for the certificate's name and the type of key. With
	// several keys, a list in their order is possible.
	Certificate []string `yaml:"certificate,single"`
	// Absolute path for the private key, written in the same way.
	PrivateKey []string `yaml:"private_key,single"`
	// Absolute path for one file with both key and chain, written in the same way. For exim with sni_map, also {serial}.
	Combined string `yaml:"combined"`
	// Absolute path of a symbolic link that mxcert makes. It leads to a directory with fullchain.pem, privkey.pem and
	// combined.pem that belong together. These directories are beside the link, in one named like it, with .generations added.
	Directory string `yaml:"directory"`
	// Absolute path of a map from the names in the certificate to the file to use. Other certificates may share it. For
	// exim, combined must then have {serial} in its path. For postfix, mxcert compiles the map, and you can write the type of table in front:
	// hash:/etc/postfix/sni.
	SNIMap string `yaml:"sni_map"`
	// Absolute path of a file with the CA's OCSP response for the certificate, written as the other paths. mxcert gets the response and keeps
	// it fresh. Only for exim (tls_ocsp_file), and only for certificates that name a responder: those of Let's Encrypt name none.
	OCSP string `yaml:"ocsp"`
	// The systemd unit to reload. Default for exim: exim4.service; for postfix: postfix.service (or its instance
	// postfix@-.service, if there is one); for dovecot: dovecot.service. For files there is no default. With "" mxcert reloads
	// nothing: in a container without systemd, a hook in deploy.d reloads the server.
	Unit string `yaml:"unit"`
	// Owner of the files: a name, or a number in quotes. Without it, a replaced file keeps its owner.
	Owner string `yaml:"owner"`
	// Group of the files, written in the same way.
	Group string `yaml:"group"`
	// Mode of the files: four octal digits, the last one 0. Without it, a replaced file keeps its mode, except that mxcert
	// tightens a world-readable key, and a new file gets 0640.
	Mode fs.FileMode `yaml:"mode"`
	// When mxcert reloads the unit. Default: always, or never if there is no unit. auto is for exim and files only: Postfix and
	// Dovecot do not notice changed files.
	Reload string `yaml:"reload" enum:"always auto never"`
	// Deploy even if the mail server on this host says that it reads other files.
	Unchecked bool `yaml:"unchecked"`
}

// Verify says where the certificate must be seen before it counts as in service.
type Verify struct {
	// Endpoints, as host:port, that serve the certificate. An empty list says that nothing on this host serves it.
	Endpoints []string `yaml:"endpoints"`
	// EndpointsSet is false if the configuration does not list endpoints: the caller chooses.
	EndpointsSet bool `yaml:"-"`
	// How long to wait until every endpoint shows the new certificate. After this time the deployment counts as failed and
	// the old files are restored.
	Timeout time.Duration `yaml:"timeout" default:"90s"`
}

// Hooks says which programs mxcert runs around a change.
type Hooks struct {
	// Absolute path of the directory with pre.d, deploy.d, post.d and fail.d.
	Directory string `yaml:"directory" default:"/etc/mxcert/hooks"`
	// How long one program may take. After this time mxcert kills it.
	Timeout time.Duration `yaml:"timeout" default:"60s"`
}

// Metrics says where numbers for monitoring go.
type Metrics struct {
	// IP address and port to listen on for /metrics and /healthz, such as 127.0.0.1:9743. Empty: mxcert does not listen.
	//
	// After Load localhost is 127.0.0.1.
	Listen string `yaml:"listen"`
	// Absolute path of a web configuration file of Prometheus' exporter-toolkit, with TLS and passwords. Empty: plain HTTP, without a password.
	WebConfig string `yaml:"web_config"`
	// Absolute path of a file for the textfile collector of node_exporter; it ends in .prom. mxcert renew writes it, too, if no daemon runs.
	// Empty: no file.
	Textfile string `yaml:"textfile"`
}

// Channel is a way to tell people. Exactly one of Mail, Webhook, Exec and Ping is set.
type Channel struct {
	// Short name of the channel, for messages and metrics.
	Name string `yaml:"name"`
	// Kind is mail, webhook, exec or ping.
	Kind string `yaml:"-"`
	// Tell by mail.
	Mail Mail `yaml:"mail"`
	// Tell by an HTTP request.
	Webhook Webhook `yaml:"webhook"`
	// Absolute path of a program that mxcert runs for each message. It gets the message as JSON on standard input. It runs as root, as hooks do,
	// so only root may be able to write it.
	Exec string `yaml:"exec"`
	// URL of a dead man's switch, such as a check of healthchecks.io. mxcert asks for it after each round of passes in which all was well, and
	// for the same URL with /fail when something is wrong. Such a URL is a password: use a reference such as cred:ping-url.
	Ping Secret `yaml:"ping"`
	// How often mxcert repeats a message about something that is still wrong. 0: never.
	Repeat time.Duration `yaml:"repeat,zero" default:"24h"`
}

// Mail is a channel that sends mail.
type Mail struct {
	// Addresses that get the message. One at another mail server is best, because broken mail cannot report that it is broken.
	To []string `yaml:"to,single"`
	// Address of the sender. Default: mxcert at the name of this host.
	From string `yaml:"from"`
	// Who takes the mail: sendmail, the program of this host's mail server; or a section with a relay.
	Via Via `yaml:"via"`
}

// Via says who takes the mail: the relay SMTP, or the program sendmail if that is empty.
type Via struct {
	// Host and port of the relay; the port is 587 if it is not given. The connection is encrypted (by STARTTLS, on port 465 from the start) and
	// the certificate is checked, except at a loopback address.
	SMTP string `yaml:"smtp"`
	// Name for the login at the relay. Default: no login.
	User string `yaml:"user"`
	// Password for the login. Use a reference such as cred:relay.
	Password Secret `yaml:"password"`
	// Absolute path of a PEM file with the roots to trust for the relay's certificate, for a relay with a CA of your own. Empty: those of the
	// system.
	CAFile string `yaml:"ca_file"`
}

// Webhook is a channel that makes an HTTP request.
type Webhook struct {
	// Where mxcert sends the request (POST). Such a URL is a password: use a reference such as cred:chat-url.
	URL Secret `yaml:"url"`
	// What mxcert sends: json, slack, ntfy, matrix, or the absolute path of a template.
	Body string `yaml:"body" default:"json"`
	// Absolute path of a PEM file with the roots to trust for the server's certificate, for a server with a CA of your own. Empty: those of the
	// system.
	CAFile string `yaml:"ca_file"`
}

// CT says how mxcert looks for certificates of our names in the logs.
type CT struct {
	// Have the daemon look for certificates that mxcert did not order, and tell about them. The first look at a name only learns what is there.
	Watch bool `yaml:"watch"`
	// Services to ask: certspotter (SSLMate's) and crtsh (crt.sh, which is often slow or away), or a section such as certspotter:
	// {token: "cred:ct"}. They learn your names, which are in the logs anyway.
	Sources []CTSource `yaml:"sources,single" default:"certspotter"`
	// How often to ask about each name, from 1h to 7d. With many names and no token, a round takes longer: Cert Spotter allows 100 requests
	// in an hour.
	Interval time.Duration `yaml:"interval" default:"6h"`
	// Absolute paths of files with certificates, in PEM or DER, that other programs or hosts of yours have ordered; a pattern with * may match
	// several. They and all other certificates for their keys count as ours.
	Ours []string `yaml:"ours,single"`
	// Absolute path of a log list in JSON, version 3. With it, verify checks the signatures of embedded SCTs.
	LogList string `yaml:"log_list"`
}

// CTSource is a service that knows what is in the logs.
type CTSource struct {
	// Kind is certspotter or crtsh.
	Kind string `yaml:"-"`
	// The beginning of the API's address, if it is not the usual one.
	URL string `yaml:"url"`
	// The API token, if you have one. Use a reference such as cred:ct.
	Token Secret `yaml:"token"`
}

// Report says where mxcert writes a page.
type Report struct {
	// Absolute path of an HTML file that mxcert writes again after each pass. Its directory must exist, and the service must be allowed to
	// write there. A new file gets mode 0640; a replaced one keeps its mode. Empty: no file.
	HTML string `yaml:"html"`
}

// TLSRPT says where reports of senders arrive.
type TLSRPT struct {
	// Absolute path of a directory into which the mail server puts the reports: mails or files, also a maildir. The daemon reads new files each
	// hour and never changes or deletes any. Empty: mxcert reads none by itself; mxcert tlsrpt FILE reads one.
	Directory string `yaml:"directory"`
}

// Fleet says with which hosts this one shares certificates, and how it reaches the store that they share.
type Fleet struct {
	// Name of the fleet: lower-case letters, digits and hyphens. All its hosts write the same.
	Name string `yaml:"name"`
	// Name of this host in the fleet: one label or a host name. Empty: the short name of this host.
	//
	// After Load it is in lower-case A-labels.
	Host string `yaml:"host"`
	// The etcd cluster.
	Etcd Etcd `yaml:"etcd"`
	// The age identity of this host (AGE-SECRET-KEY-1…), as age-keygen writes it. Use a reference such as cred:age.
	Identity Secret `yaml:"identity"`
	// The age recipients (age1…) that this host trusts: of all hosts, this one included, and of a recovery key that is kept offline.
	Recipients []string `yaml:"recipients"`
	// Order without the store if it is away and less than a fifth of a certificate's life is left. Never where mxcert manages TLSA records.
	Alone bool `yaml:"alone"`
	// How long a host that is away counts: its wishes are kept, and TLSA records that it may need stay. After that it is forgotten.
	Forget time.Duration `yaml:"forget" default:"14d"`
}

// Etcd is an etcd cluster, with what proves that this host may use it.
type Etcd struct {
	// URLs of the members, such as https://e1.example.org:2379. Plain http is accepted at a loopback address only.
	//
	// After Load they have a port.
	Endpoints []string `yaml:"endpoints"`
	// Absolute path of a PEM file with the roots to trust for the members' certificates. Empty: those of the system.
	CAFile string `yaml:"ca_file"`
	// Absolute path of a PEM file with this host's client certificate. Its common name is the user of etcd.
	Certificate string `yaml:"certificate"`
	// Absolute path of its key, or a reference such as cred:etcd.
	PrivateKey string `yaml:"private_key"`
}

// On reports whether this host is in a fleet.
func (f Fleet) On() bool {
	return f.Alone || f.Name != "" || f.Host != "" || f.Identity != "" || len(f.Recipients) > 0 || len(f.Etcd.Endpoints) > 0 ||
		f.Etcd.CAFile != "" || f.Etcd.Certificate != "" || f.Etcd.PrivateKey != "" || f.Forget != 0 && f.Forget != usualForget
}

// Log says what mxcert logs.
type Log struct {
	// mxcert logs messages of this level and of more important ones.
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

// Warnings returns settings that are allowed but suspicious, in the order of the files: also each secret that stands in a file itself.
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
// If the files do not have the setting, the position is that of the nearest section around it.
func (c *Config) At(path string) Problem { return c.index.problem(path) }

// Forget releases the text of the files and the positions of the settings, which need more memory than the settings
// themselves. Afterwards At, Files and Warnings find nothing.
func (c *Config) Forget() { c.index, c.warnings = &index{}, nil }

// Paths returns the paths for key type key, the i-th of the certificate's keys, with {name} and {key} filled in; {serial}
// stays. A path that the target does not have is "".
func (t Target) Paths(name, key string, i int) (cert, privkey, combined string) {
	fill := placeholders(name, key)
	return fill.Replace(pick(t.Certificate, i)), fill.Replace(pick(t.PrivateKey, i)), fill.Replace(t.Combined)
}

// LinkPath returns the path of the directory setting in the same way.
func (t Target) LinkPath(name, key string) string {
	return placeholders(name, key).Replace(t.Directory)
}

// SameFiles reports whether two targets name the same files.
func (t Target) SameFiles(other Target) bool {
	return slices.Equal(t.Certificate, other.Certificate) && slices.Equal(t.PrivateKey, other.PrivateKey) &&
		t.Combined == other.Combined && t.Directory == other.Directory && t.SNIMap == "" && other.SNIMap == ""
}

// StaplePath returns the path of the ocsp setting in the same way.
func (t Target) StaplePath(name, key string) string {
	return placeholders(name, key).Replace(t.OCSP)
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
