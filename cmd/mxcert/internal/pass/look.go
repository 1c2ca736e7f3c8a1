package pass

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"mxcert/acme/issued"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/dane"
	"mxcert/deploy/served"
)

// lookPatience limits the handshakes of a look.
const lookPatience = 3 * time.Second

// Look reports the four truths of one certificate (wanted, issued, deployed and served) as they are now, and why the last pass failed. It
// changes nothing and takes no lock. Files reads what is deployed. The exit code in the report is the one that `mxcert renew` would end with
// if it found the same.
func Look(ctx context.Context, files *helper.Looker, want wanted.Certificate, lineage *state.Lineage) report.Certificate {
	r, _ := look(ctx, files, want, lineage)
	return r
}

// look does the work of [Look]. It also returns the files that the report depends on, or nil if they are not known.
func look(ctx context.Context, files *helper.Looker, want wanted.Certificate, lineage *state.Lineage) (r report.Certificate, sources []string) {
	want, _, _ = WithFound(want, lineage) // Describe says what is wrong with them
	have, err := issued.Look(lineage, want.Keys)
	if err != nil {
		r = newReport(want)
		r.Stage, r.Error, r.Code = report.Failed, report.NewError(report.At("state", err)), report.CodeOf(err)
		if report.IsTemporary(err) {
			r.Stage = report.Waiting
		}
		return r, nil
	}
	if deployed := deployedFiles(want, have.Bundles); have.Sources() != nil && canWatch(deployed) {
		sources = append(have.Sources(), deployed...)
		if file := lineage.TLSAFile(); want.DANE().Mode != dane.Off {
			sources = append(sources, file)
		}
		if want.Stapled() {
			sources = append(sources, lineage.StapleFile())
		}
		if len(want.MailDomains) > 0 {
			sources = append(sources, lineage.NamesFile(), lineage.SendersFile())
		}
		if want.InFleet {
			sources = append(sources, lineage.OthersFile())
		}
	}
	want = withStaples(want, have)
	r = Describe(want, have)
	r.Warnings = append(append([]string{}, have.Notes...), r.Warnings...) // in JSON a list, even if it is empty
	if !have.Any() {
		r.Stage, r.Code = report.Waiting, report.CodeTemporary
		r.Warnings = append(r.Warnings, "no certificate yet; run mxcert renew or wait for the daemon")
		addLastFailure(&r, have.Record.Failure)
		return r, sources
	}
	joinTLSA := lookForStatus(ctx, want, lineage)
	lookAtFiles(ctx, &r, files, want, have)
	seen := lookAtEndpoints(ctx, &r, want, have)
	joinTLSA().tell(&r, have, seen)
	if err := incomplete(want, have.Bundles); err != nil {
		r.Stage, r.Code, r.Error = report.Issued, report.CodeNotInService, report.NewError(report.At("deploy", err))
	}
	addLastFailure(&r, have.Record.Failure)
	if addDue(&r, want, have) {
		sources = nil // until the order has ended, the next look may find something else
	}
	if have.Record.HooksDue && r.Code == report.CodeOK {
		r.Error = report.NewError(report.At("hook", errors.New("the hooks of the certificate in service have not succeeded yet; they run again at the next pass")))
		r.Code = report.CodeFailed
	}
	return r, sources
}

// canWatch reports whether this process would notice a change of the files.
func canWatch(files []string) bool {
	for _, file := range files {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrPermission) {
			return false
		}
	}
	return true
}

// lookAtFiles compares what is deployed with what is issued.
func lookAtFiles(ctx context.Context, r *report.Certificate, files *helper.Looker, want wanted.Certificate, have *issued.Lineage) {
	r.Stage = report.Issued
	found, err := files.Look(ctx, want, have.Bundles, helper.KnownFiles(have.Record))
	switch {
	case err != nil:
		r.Error, r.Code = report.NewError(report.At("deploy", err)), report.CodeNotInService
	case found.Empty():
		r.Stage = report.Deployed
	default:
		for _, change := range found.Changes {
			r.Warnings = append(r.Warnings, change.String())
		}
		r.Warnings = append(r.Warnings, fmt.Sprintf("mxcert deploy %s restores the files; a running daemon does that within a minute", want.Name))
		r.Code = report.CodeNotInService
		if found.StaplesOnly() { // the certificate is in place
			r.Stage, r.Code = report.Deployed, report.CodeFailed
			if held := readStaples(have.Lineage).contention(want, have.Bundles, changesText(found.Changes)); held != nil {
				r.Error = report.NewError(report.At(stageOCSP, held))
			}
		} else if held := contention(have.Record.Heals, want.Name, want.Fingerprint(), changesText(found.Changes)); held != nil && have.WasServed() {
			r.Error = report.NewError(report.At("deploy", held))
		}
	}
}

// lookAtEndpoints compares what is served with what is issued.
func lookAtEndpoints(ctx context.Context, r *report.Certificate, want wanted.Certificate, have *issued.Lineage) (seen []served.Result) {
	seen = served.Await(ctx, Probes(want, have.Bundles), lookPatience, want.VerifyTimeout, served.Matching)
	r.Endpoints = endpointReports(want, seen)
	for _, s := range seen {
		if _, err := sentTo(want, s); err != nil {
			r.Warnings = append(r.Warnings, sentText(err))
		}
	}
	if err := served.Problems(seen, served.Matching, want.Kinds()...); err != nil {
		r.Code = report.CodeNotInService
		if r.Error == nil {
			r.Error = report.NewError(report.At("verify", err))
		}
	} else if len(seen) > 0 {
		r.Stage = report.Served
	}
	return seen
}

// addLastFailure adds why the last pass failed, if it did.
func addLastFailure(r *report.Certificate, f *state.Failure) {
	if f == nil {
		return
	}
	if r.Error == nil || r.Error.Kind != kindDrift { // the drift is the present state, and newer
		r.Error = &report.Error{Stage: f.Stage, Kind: f.Kind, Message: f.Message, Hint: f.Hint}
	}
	next := "at " + f.NotBefore.Format(time.RFC3339)
	if !f.NotBefore.After(time.Now()) {
		next = "within the hour"
	}
	r.Warnings = append(r.Warnings, fmt.Sprintf("the last pass failed at %s (%d in a row); the daemon tries again %s", f.At.Format(time.RFC3339), f.Count, next))
	switch {
	case r.Code != report.CodeOK:
	case f.Stage == "deploy" || f.Stage == "reload" || f.Stage == "verify":
		r.Code = report.CodeNotInService
	default:
		r.Code = report.CodeFailed
	}
}

// addDue says that a certificate is due, and when mxcert tries next: as a renew would. It reports whether one is.
func addDue(r *report.Certificate, want wanted.Certificate, have *issued.Lineage) bool {
	reason := ""
	for i := range want.Keys {
		if reason = whyDue(have, want, i, settled(want, have.Record)); reason != "" {
			break
		}
	}
	if reason == "" {
		return false
	}
	next := time.Now().UTC().Truncate(time.Second)
	failure, held := have.Record.Failure, have.Record.Held
	switch {
	case failure != nil && failure.Fingerprint == want.Fingerprint() && next.Before(failure.NotBefore):
		next = failure.NotBefore
		r.NextTry = &next
	case held != nil && held.Fingerprint == want.Fingerprint() && next.Before(held.Until):
		next = held.Until
		r.NextTry = &next
		if r.Error == nil && r.Code == report.CodeOK {
			r.Error, r.Code = &report.Error{Stage: "order", Kind: "backoff", Message: held.Message, Hint: held.Hint}, report.CodeTemporary
		}
	default:
		r.Warnings = append(r.Warnings, "an order is due: "+reason+"; mxcert renew places it, or the daemon at its next pass")
	}
	r.NextRenewal = &next
	if len(r.Missing) > 0 && r.Code == report.CodeOK {
		r.Code = report.CodeTemporary // as for a certificate that is not issued yet
	}
	return true
}
