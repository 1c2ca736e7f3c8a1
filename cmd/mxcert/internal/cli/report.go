package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// report is what renew, status, deploy and rollback say with --json. Its fields are part of the contract.
type report struct {
	Changed      bool                `json:"changed"`
	Certificates []certificateReport `json:"certificates"`
	ConfigError  string              `json:"config_error,omitempty"` // the file is broken; the rest is about the configuration in force
	Daemon       *daemonReport       `json:"daemon,omitempty"`
}

// certificateReport is one lineage as it is after a pass, or as status finds it.
type certificateReport struct {
	Name        string           `json:"name"`
	Names       []string         `json:"names"`
	Keys        []keyReport      `json:"keys"`
	Stage       string           `json:"stage"`
	Changed     bool             `json:"changed"`
	NextRenewal *time.Time       `json:"next_renewal"`
	Endpoints   []endpointReport `json:"endpoints"`
	Error       *errorReport     `json:"error"`
	Files       []string         `json:"files"`
	Warnings    []string         `json:"warnings"`
	Plan        []string         `json:"plan,omitempty"`    // --dry-run: what would be done, in words
	DryRun      *dryRunReport    `json:"dry_run,omitempty"` // --dry-run: the same for programs

	code         int
	retryAt      *time.Time // after a failure: not before this moment
	outOfService bool       // what is issued could not be put in service
}

// The stages of a certificate, from the best to the worst.
const (
	stageServed   = "served"   // every endpoint shows it
	stageDeployed = "deployed" // the files hold it; an endpoint does not show it, or none is configured
	stageIssued   = "issued"   // stored, but the files do not hold it
	stageWaiting  = "waiting"  // to be tried again later
	stageFailed   = "failed"
)

// keyReport is the current certificate of one key type.
type keyReport struct {
	Key       string    `json:"key"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Issuer    string    `json:"issuer"`
	SPKI      string    `json:"spki_sha256"`
}

// endpointReport is one handshake.
type endpointReport struct {
	Address    string `json:"address"`
	ServerName string `json:"server_name"`
	Key        string `json:"key"`
	Serial     string `json:"serial"`
	Matches    bool   `json:"matches"`
	Error      string `json:"error"`

	hint string
	kind string
	took time.Duration
}

// errorReport says what failed and what to do.
type errorReport struct {
	Stage   string `json:"stage"`
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// stageError is an error with the step of the pass in which it happened.
type stageError struct {
	stage string
	err   error
}

func (e *stageError) Error() string { return e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

// at marks an error with its step; nil stays nil.
func at(stage string, err error) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*stageError](err); done {
		return err
	}
	return &stageError{stage: stage, err: err}
}

func newErrorReport(err error) *errorReport {
	e := &errorReport{Kind: kindOf(err), Message: once(err.Error()), Hint: hintOf(err)}
	if staged, ok := errors.AsType[*stageError](err); ok {
		e.Stage = staged.stage
	}
	if how := cutShort(err); how != "" && e.Kind == how {
		e.Message = fmt.Sprintf("%s at the step %q: %s", how, e.Stage, e.Message)
	}
	return e
}

// once leaves out lines that were there before: two files of one directory have the same fault.
func once(text string) string {
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// exitCode sums up all certificates: 0 when all converged, the common code when all failed alike, 4 when some failed.
func (r *report) exitCode() int {
	code, good, bad := exitOK, 0, 0
	for _, c := range r.Certificates {
		if c.code == exitOK {
			good++
			continue
		}
		bad++
		if rank(c.code) > rank(code) {
			code = c.code
		}
	}
	if good > 0 && bad > 0 {
		return exitSome
	}
	return code
}

// rank orders the codes of a certificate: when several failures differ, the one that needs a person most is reported.
func rank(code int) int {
	switch code {
	case exitOK:
		return 0
	case exitTemporary:
		return 1
	case exitPermission:
		return 2
	case exitNotInService:
		return 3
	}
	return 4
}
