// Package report defines what mxcert reports about certificates: the JSON documents of renew, status, deploy and rollback, the stages of a
// certificate, the exit codes, and how an error becomes text. Other people's scripts depend on the names of fields, stages, kinds and
// codes. So these names never change; new fields may be added.
//
// A report is written at the end of the work, from what the work found. This package decides nothing and remembers nothing:
// what a pass needs later is in the pass or in the state directory.
package report

import (
	"time"

	"mxcert/deploy"
)

// Report is the JSON document of renew, status, deploy and rollback.
type Report struct {
	Changed      bool          `json:"changed"`
	Certificates []Certificate `json:"certificates"`
	ConfigError  string        `json:"config_error,omitempty"` // the file is broken; the rest describes the configuration in force
	Daemon       *Daemon       `json:"daemon,omitempty"`
}

// Certificate is one lineage as a pass leaves it, or as status finds it.
type Certificate struct {
	Name        string     `json:"name"`
	Names       []string   `json:"names"`
	Missing     []string   `json:"missing,omitempty"` // the wanted names that the current certificate does not have yet
	Keys        []Key      `json:"keys"`
	Stage       Stage      `json:"stage"`
	Changed     bool       `json:"changed"`
	NextRenewal *time.Time `json:"next_renewal"`
	Endpoints   []Endpoint `json:"endpoints"`
	Error       *Error     `json:"error"`
	Files       []string   `json:"files"`
	Warnings    []string   `json:"warnings"`
	Plan        []string   `json:"plan,omitempty"`     // --dry-run: what would be done, in words
	DryRun      *DryRun    `json:"dry_run,omitempty"`  // --dry-run: the same, for programs
	Code        Code       `json:"exit_code"`          // of a command for this certificate alone
	NextTry     *time.Time `json:"next_try,omitempty"` // after a failure: when the daemon tries again

	OutOfService bool      `json:"-"` // what is issued could not be put in service
	HeldUntil    time.Time `json:"-"` // mxcert leaves files that something else keeps changing alone until then; zero if there is no fight
	HeldOnly     bool      `json:"-"` // the error says only this
}

// New returns the report of a certificate about which nothing is known yet.
func New(name string, names []string) Certificate {
	return Certificate{Name: name, Names: names, Endpoints: []Endpoint{}, Keys: []Key{}, Warnings: []string{}, Files: []string{}}
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

	SeenAt time.Time `json:"seen_at"` // when the handshake was made
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
	Files      []deploy.Change `json:"files"` // of the certificates that exist; the result of an order is not known yet
	Reloads    []Reload        `json:"reloads"`
	Handshakes []Handshake     `json:"handshakes"`
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
