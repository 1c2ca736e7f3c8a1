// Package revoke has the CA revoke certificates (RFC 8555 section 7.6): it chooses which, notes the revocation before it asks
// the CA, signs the request with the right key, and says what comes next.
//
// The note survives a killed process: the next pass then replaces the certificate, and the next run of the command finds out
// whether the CA has revoked it. A compromised key is never used again.
//
// It does not replace a certificate; the next pass does.
package revoke

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mxcert/acme"
	"mxcert/acme/issued"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/served"
)

// lookPatience limits the handshakes that find out what is in service.
const lookPatience = 10 * time.Second

// Report is the document of `revoke --json`.
type Report struct {
	Changed      bool          `json:"changed"`
	Name         string        `json:"name"`
	Reason       string        `json:"reason"`
	Certificates []Certificate `json:"certificates"`
	Warnings     []string      `json:"warnings"`
	Next         string        `json:"next"` // what happens now, and what the operator has to do
}

// Certificate is the result for one certificate.
type Certificate struct {
	report.Key
	Revoked  bool          `json:"revoked"`
	Changed  bool          `json:"changed"`   // false if it had been revoked before
	SignedBy string        `json:"signed_by"` // account, or key: the certificate's own
	Served   bool          `json:"served"`    // an endpoint serves it
	Error    *report.Error `json:"error"`
	Code     report.Code   `json:"exit_code"`
}

// Choice says which certificates of a lineage to revoke: the current ones, or those that match Key and Serial.
type Choice struct {
	Reason acme.Reason
	Key    string // only those of this key type
	Serial string // the one with this serial number, in any notation

	IgnoreDANE bool // revoke a compromised key although no other key can be served yet
}

// Reasons lists the names of the reasons.
func Reasons() (names []string) {
	for _, r := range reasons() {
		names = append(names, r.String())
	}
	return names
}

func reasons() []acme.Reason {
	return []acme.Reason{acme.Unspecified, acme.KeyCompromise, acme.Superseded, acme.CessationOfOperation}
}

// ParseReason reads a reason by its name or number (RFC 5280 section 5.3.1).
func ParseReason(text string) (acme.Reason, error) {
	var known []string
	for _, r := range reasons() {
		if strings.EqualFold(text, r.String()) || text == strconv.Itoa(int(r)) {
			return r, nil
		}
		known = append(known, fmt.Sprintf("%s (%d)", r, uint(r)))
	}
	return 0, report.Usage("--reason is one of %s, not %q", strings.Join(known, ", "), text)
}

// Revocation is the work on one lineage.
type Revocation struct {
	Targets []state.Generation // what is to be revoked
	Served  map[string]bool    // serial numbers that an endpoint serves

	runner     *pass.Runner
	name       string
	configured bool
	lineage    *state.Lineage
	record     state.Record
	reason     acme.Reason
	report     *Report
	say        acme.Progress
}

// Choose finds the certificates and the endpoints that serve them. It takes no lock yet, because a person may take a while to
// confirm. It also accepts a lineage that was removed from the configuration.
func Choose(ctx context.Context, runner *pass.Runner, name string, choice Choice) (*Revocation, error) {
	want, configured := runner.Host.Certificate(name)
	r := &Revocation{runner: runner, name: name, configured: configured, lineage: runner.Store.Lineage(name), reason: choice.Reason, Served: map[string]bool{},
		report: &Report{Name: name, Reason: choice.Reason.String(), Certificates: []Certificate{}, Warnings: []string{}}}
	if strings.ContainsAny(name, `/\`) {
		return nil, notKnown(runner, name)
	}
	generations, err := r.lineage.Generations()
	if !configured && (err != nil || len(generations) == 0) {
		return nil, notKnown(runner, name)
	}
	if err != nil {
		return nil, report.At("state", err)
	}
	if r.record, _, err = r.lineage.Look(); err != nil {
		return nil, report.At("state", err)
	}
	if r.Targets = r.fitting(generations, choice); len(r.Targets) == 0 {
		return nil, nothingToRevoke(name, generations, choice)
	}
	if r.reason == acme.KeyCompromise {
		r.Targets = withSameKey(generations, r.Targets)
	}
	if configured {
		r.lookAround(ctx, want)
	}
	if configured && r.reason == acme.KeyCompromise && !choice.IgnoreDANE {
		if err := r.mayLose(ctx, want); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func notKnown(runner *pass.Runner, name string) error {
	_, err := runner.Host.Choose([]string{name})
	return &report.Exit{Code: report.CodeUsage, Err: err}
}

// fitting lists the chosen generations. If an earlier revocation was interrupted, it lists the certificates of that one, because another
// certificate may be the current one by now.
func (r *Revocation) fitting(generations []state.Generation, choice Choice) []state.Generation {
	var started, targets []state.Generation
	for _, g := range generations {
		if choice.Key != "" && string(g.Key) != choice.Key || choice.Serial != "" && plainSerial(g.Serial) != plainSerial(choice.Serial) {
			continue
		}
		note, noted := r.lineage.Revocation(g.ID)
		switch interrupted := noted && note.Done.IsZero() && time.Now().Before(g.NotAfter); {
		case interrupted:
			started = append(started, g)
		case choice.Serial != "" || r.record.Slot(g.Key).Current == g.ID:
			targets = append(targets, g)
		}
	}
	if len(started) > 0 {
		return started
	}
	return targets
}

// plainSerial removes variations in how a serial number is written: capitals, colons, a prefix, leading zeros.
func plainSerial(text string) string {
	text = strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(text))
	return strings.TrimLeft(strings.TrimPrefix(text, "0x"), "0")
}

func nothingToRevoke(name string, generations []state.Generation, choice Choice) error {
	var known []string
	for _, g := range generations {
		known = append(known, fmt.Sprintf("%s (%s)", g.Serial, g.Key))
	}
	switch {
	case len(known) == 0:
		return fmt.Errorf("no certificate of %s is stored", name)
	case choice.Serial != "" || choice.Key != "":
		return report.Usage("no certificate of %s fits --serial %q, --key %q; stored are: %s", name, choice.Serial, choice.Key, strings.Join(known, ", "))
	}
	return report.Usage("no certificate of %s is current; choose one with --serial: %s", name, strings.Join(known, ", "))
}

// withSameKey adds the certificates that have the same key, in the order of all.
func withSameKey(all, targets []state.Generation) (list []state.Generation) {
	compromised := map[string]bool{}
	for _, g := range targets {
		compromised[g.SPKI] = true
	}
	for _, g := range all {
		if compromised[g.SPKI] {
			list = append(list, g)
		}
	}
	return list
}

// lookAround makes handshakes with the endpoints, to learn which certificates are in service.
func (r *Revocation) lookAround(ctx context.Context, want wanted.Certificate) {
	have, err := issued.Look(r.lineage, want.Keys)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	for _, seen := range served.Look(ctx, pass.Probes(want, have.Bundles)) {
		if seen.Serial != "" {
			r.Served[seen.Serial] = true
		}
	}
}
