// Package report defines what mxcert reports about certificates: the JSON documents of renew, status, deploy and rollback, the stages of a
// certificate, the exit codes, and how an error becomes text. Other people's scripts depend on the names of fields, stages, kinds and
// codes. So these names never change; new fields may be added.
//
// A report is written at the end of the work, from what the work found. This package decides nothing and remembers nothing:
// what a pass needs later is in the pass or in the state directory.
package report

import (
	"time"

	"mxcert/acme/finding"
	"mxcert/deploy"
)

// Report is the JSON document of renew, status, deploy and rollback.
type Report struct {
	Changed      bool          `json:"changed"`
	Certificates []Certificate `json:"certificates"`
	ConfigError  string        `json:"config_error,omitempty"` // the file is broken; the rest describes the configuration in force
	Daemon       *Daemon       `json:"daemon,omitempty"`
	Fleet        *Fleet        `json:"fleet,omitempty"`       // of status: how the store of the fleet is; nil if this host is in none
	Alarms       []Alarm       `json:"alarms,omitempty"`      // of status: what the daemon tells people through notify, the worst first
	Undelivered  []Undelivered `json:"undelivered,omitempty"` // of status: the channels of notify that could not deliver
}

// Certificate is one lineage as a pass leaves it, or as status finds it.
type Certificate struct {
	Name        string         `json:"name"`
	Names       []string       `json:"names"`
	Reasons     Reasons        `json:"reasons"`           // why each of Names is wanted
	Missing     []string       `json:"missing,omitempty"` // the wanted names that the current certificate does not have yet
	Awaited     []Awaited      `json:"awaited,omitempty"` // names that one look at DNS has found, and a second one must find
	Leaving     []string       `json:"leaving,omitempty"` // names of the current certificate that looks find no longer: the next one lacks them
	LeftOut     []LeftOut      `json:"left_out"`          // optional names that the current certificate does not have, because they could not be proven
	Keys        []Key          `json:"keys"`
	Stage       Stage          `json:"stage"`
	Changed     bool           `json:"changed"`
	NextRenewal *time.Time     `json:"next_renewal"`
	Endpoints   []Endpoint     `json:"endpoints"`
	Senders     *Senders       `json:"senders,omitempty"`  // what senders to the mail domains met when the daemon last looked
	Reported    *SenderReports `json:"reported,omitempty"` // of status: what senders report (RFC 8460); nil if the daemon has read no report about it
	TLSA        *TLSA          `json:"tlsa,omitempty"`     // nil with mode off, and if no name has TLSA records
	Error       *Error         `json:"error"`
	Files       []string       `json:"files"`
	Warnings    []string       `json:"warnings"`
	Plan        []string       `json:"plan,omitempty"`     // --dry-run: what would be done, in words
	DryRun      *DryRun        `json:"dry_run,omitempty"`  // --dry-run: the same, for programs
	Code        Code           `json:"exit_code"`          // of a command for this certificate alone
	NextTry     *time.Time     `json:"next_try,omitempty"` // after a failure: when the daemon tries again

	OutOfService bool      `json:"-"` // what is issued could not be put in service
	HeldUntil    time.Time `json:"-"` // mxcert leaves files that something else keeps changing alone until then; zero if there is no fight
	HeldOnly     bool      `json:"-"` // the error says only this
	NextLook     time.Time `json:"-"` // when a look at DNS may change names; zero if there is nothing to wait for
	NextOCSP     time.Time `json:"-"` // when an OCSP response is due; zero if servers get none from mxcert
	NextOffer    time.Time `json:"-"` // when what is issued is offered to the other hosts of the fleet again; zero if they have it
	NextTLSA     time.Time `json:"-"` // when something may change about TLSA records; zero if only the hourly pass can tell

	Issued      []Issuance `json:"-"` // in this pass
	Repaired    bool       `json:"-"` // this pass has put back into service what something else had changed
	Elsewhere   bool       `json:"-"` // the error says only that another host of the fleet orders, or that the store of the fleet is away
	Limited     bool       `json:"-"` // the error says only that the order waits for a limit of the CA
	RenewalDue  time.Time  `json:"-"` // of the current certificates; in the past while orders fail; zero if there are none
	LastSuccess time.Time  `json:"-"` // when a pass last found or put the certificate in service; zero if none did
	Renewal     Outcome    `json:"-"` // of the orders of this pass; "" if it placed none
	Reloads     []Reloaded `json:"-"` // that this pass has started
	Failures    int        `json:"-"` // passes in a row that have failed; 0 if the last one did not, or if that is not known
	Failed      *Error     `json:"-"` // why the last of them did, also while Error only says that mxcert waits because of it; nil if Failures is 0
}

// Issuance is a certificate that a pass has got.
type Issuance struct {
	Key      string
	Serial   string
	Order    string // URL
	NotAfter time.Time
}

// Outcome says how something ended that is counted.
type Outcome string

// The outcomes.
const (
	Succeeded Outcome = "success"
	DidFail   Outcome = "failure"
	Inactive  Outcome = "inactive" // the unit was not running, so there was nothing to reload
)

// Reloaded is a reload that has ended.
type Reloaded struct {
	Unit    string
	Outcome Outcome
}

// Reasons says why each name is wanted: "configured", "MX of DOMAIN" or "host name".
type Reasons map[string]string

// Awaited is a name that becomes wanted if another look at DNS finds it, too.
type Awaited struct {
	Name   string    `json:"name"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"` // the first look that has found it
	Until  time.Time `json:"until"` // a look after this time decides
}

// New returns the report of a certificate about which nothing is known yet.
func New(name string, names []string) Certificate {
	return Certificate{Name: name, Names: names, Reasons: Reasons{}, LeftOut: []LeftOut{}, Endpoints: []Endpoint{}, Keys: []Key{}, Warnings: []string{}, Files: []string{}}
}

// LeftOut is an optional name that is left out.
type LeftOut struct {
	Name    string    `json:"name"`
	Since   time.Time `json:"since"`
	Reason  string    `json:"reason"`
	NextTry time.Time `json:"next_try"` // the daemon does not try the name again before
}

// Senders is what senders to the mail domains of a certificate meet.
type Senders struct {
	Version  int               `json:"version"`
	At       time.Time         `json:"at"`
	Domains  []string          `json:"domains"`
	Findings []finding.Finding `json:"findings"` // what is wrong, the worst first
	Hosts    []SenderHost      `json:"hosts,omitempty"`
}

// SenderHost is what each kind of sender decides about one address of an MX host, as `verify --json` says it.
type SenderHost struct {
	MX       string                   `json:"mx"`
	Domain   string                   `json:"domain,omitempty"` // whose MX record names it
	Address  string                   `json:"address"`          // "" if the host has none, or none was asked
	Port     int                      `json:"port"`
	Verdicts map[string]SenderVerdict `json:"verdicts"` // by kind of sender
}

// SenderVerdict is what one kind of sender decides.
type SenderVerdict struct {
	Result string `json:"result"` // pass, fail or n/a
	Action string `json:"action"` // "" if it was not judged
	Type   string `json:"type"`   // of RFC 8460; "" if nothing failed
	Reason string `json:"reason"`
}

// TLSA is what is known about the TLSA records of a certificate.
type TLSA struct {
	Mode        string       `json:"mode"`
	State       string       `json:"state"`       // of the key type that is least far
	WaitingFor  string       `json:"waiting_for"` // "" if nothing is waited for
	Until       *time.Time   `json:"until"`       // when the wait ends if nothing else changes; null if nobody knows
	Records     []TLSARecord `json:"records"`
	Keys        []TLSAKey    `json:"keys"`
	Ignored     []string     `json:"ignored_servers,omitempty"`
	SignedUntil *time.Time   `json:"signed_until,omitempty"` // when the first signature on the records expires
	LookedAt    *time.Time   `json:"looked_at,omitempty"`
	Owners      []TLSAOwner  `json:"owners"`
}

// TLSAOwner says whether senders that use DANE accept what is served at one port of one name.
type TLSAOwner struct {
	Owner   string `json:"owner"`
	Host    string `json:"host"`
	Port    int    `json:"port"`
	Matches *bool  `json:"matches"`         // every sender accepts what the endpoints at the port show; null if none was asked
	Reason  string `json:"reason"`          // why not, or why it is not known
	Fault   string `json:"fault,omitempty"` // why the look was not complete
}

// TLSARecord is one record that is there, or should be.
type TLSARecord struct {
	Owner   string   `json:"owner"`
	Record  string   `json:"record"`
	Ours    bool     `json:"ours"`                 // mxcert has added it
	Matches string   `json:"matches"`              // what it fits: "current ec256", "next ec256", "old ec256", "issuer", or ""
	SeenBy  []SeenBy `json:"seen_by"`              // the servers that give it
	Missing []SeenBy `json:"missing_at,omitempty"` // the servers that do not, if it should be there
}

// SeenBy is one address of one authoritative server.
type SeenBy struct {
	Server  string `json:"server"`
	Address string `json:"address"`
	Serial  uint32 `json:"serial,omitempty"` // of the zone there, if it was asked for
	Fault   string `json:"fault,omitempty"`
	// SignedUntil is when the signature expires that it gives with its answer; nil if it gives none.
	SignedUntil *time.Time `json:"signed_until,omitempty"`
}

// TLSAKey is where one key type stands.
type TLSAKey struct {
	Key        string     `json:"key"`
	State      string     `json:"state"`
	WaitingFor string     `json:"waiting_for"`
	Until      *time.Time `json:"until"`
	Current    string     `json:"current"` // SPKI digests
	Next       string     `json:"next"`
}

// Stage is how far a certificate has come.
type Stage string

// The stages of a certificate, from the best to the worst.
const (
	Served   Stage = "served"   // every endpoint serves it
	Deployed Stage = "deployed" // the files hold it; an endpoint does not serve it, or no endpoint is configured
	Issued   Stage = "issued"   // stored, but the files do not hold it
	Waiting  Stage = "waiting"  // to be tried again later
	Failed   Stage = "failed"
)

// Key is the current certificate of one key type.
type Key struct {
	Key       string    `json:"key"`
	Serial    string    `json:"serial"` // lower-case hexadecimal
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Issuer    string    `json:"issuer"`
	SPKI      string    `json:"spki_sha256"`
	OCSP      *OCSP     `json:"ocsp,omitempty"` // nil if servers get no OCSP response from mxcert
}

// OCSP is what the CA says about a certificate, as servers send it along.
type OCSP struct {
	Status      string     `json:"status"`       // of the last answer: good, revoked or unknown; none before the first
	ThisUpdate  *time.Time `json:"this_update"`  // of the response in use, as NextUpdate; null if there is none
	NextUpdate  *time.Time `json:"next_update"`  // when it expires
	NextRequest *time.Time `json:"next_request"` // when mxcert asks again; null if it does not
	Error       string     `json:"error"`        // why the last request brought no response that says good
	Needed      bool       `json:"-"`            // Exim refuses TLS if it reads its files and there is no valid response, as far as the pass knows
	Kind        string     `json:"kind,omitempty"`
	Hint        string     `json:"hint,omitempty"`
}

// Endpoint is the last handshake with one endpoint and key type.
type Endpoint struct {
	Address    string `json:"address"`
	ServerName string `json:"server_name"`
	Key        string `json:"key"`
	Serial     string `json:"serial"`
	Matches    bool   `json:"matches"`
	Error      string `json:"error"`
	Kind       string `json:"kind,omitempty"` // of the error
	Hint       string `json:"hint,omitempty"` // what to do about the error

	OCSP     string     `json:"ocsp,omitempty"`      // what it sent along: good, none, expired or invalid; absent if no response is to be sent
	NotAfter *time.Time `json:"not_after,omitempty"` // of the certificate that the endpoint showed; absent if the handshake failed
	SeenAt   time.Time  `json:"seen_at"`             // when the handshake was made
}

// Daemon is the status of a running daemon.
type Daemon struct {
	PID           int        `json:"pid"`
	Version       string     `json:"version"`
	Socket        string     `json:"socket,omitempty"` // where commands can ask it
	Started       time.Time  `json:"started"`
	ConfigLoaded  time.Time  `json:"config_loaded"`
	ConfigError   string     `json:"config_error,omitempty"`
	ConfigErrorAt *time.Time `json:"config_error_at,omitempty"`
}

// BadSince returns when the daemon found the configuration bad, in words. The moment may be missing in what another user has written.
func (d *Daemon) BadSince() string {
	if d.ConfigErrorAt == nil {
		return "an unknown time"
	}
	return Minute(*d.ConfigErrorAt)
}

// DryRun is what a pass would do, for programs. Certificate.Plan says the same in words.
type DryRun struct {
	Orders     []string        `json:"orders"`
	Proofs     []Proof         `json:"proofs,omitempty"` // with dns.zones: which account would prove which names of the orders
	Files      []deploy.Change `json:"files"`            // of the certificates that exist; the result of an order is not known yet
	Reloads    []Reload        `json:"reloads"`
	Handshakes []Handshake     `json:"handshakes"`
}

// Proof is a DNS account with the names that it would prove.
type Proof struct {
	Zone     string   `json:"zone"` // of dns.zones; "" for the account of dns.provider
	Provider string   `json:"provider"`
	Names    []string `json:"names"`
}

// Reload is a unit, and when it would be reloaded.
type Reload struct {
	Unit string `json:"unit"`
	When string `json:"when"` // always, or auto: only if the server does not notice the files
}

// Handshake is a handshake that would have to show the certificate.
type Handshake struct {
	Address    string `json:"address"`
	ServerName string `json:"server_name"`
	Key        string `json:"key"`
}

// Sum returns a report on certificates: changed if one of them was.
func Sum(certificates []Certificate) *Report {
	r := &Report{Certificates: certificates}
	for _, c := range certificates {
		r.Changed = r.Changed || c.Changed
	}
	return r
}

// ExitCode combines the codes of the certificates, see [SumCodes].
func (r *Report) ExitCode() Code {
	codes := make([]Code, len(r.Certificates))
	for i, c := range r.Certificates {
		codes[i] = c.Code
	}
	return SumCodes(codes)
}
