package cli

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/state"

	"mxcert/cmd/mxcert/internal/report"
)

// carryOut revokes under the lock, so that a daemon's pass and the revocation do not meet.
func (r *revocation) carryOut(ctx context.Context) error {
	unlock, err := r.lock(ctx)
	if err != nil {
		return report.At("lock", err)
	}
	defer unlock()
	record, repaired, err := r.lineage.Load()
	if err != nil {
		return report.At("state", err)
	}
	r.record = record
	if repaired != "" {
		r.warning("%s", repaired)
		r.record.Log(state.Event{At: time.Now(), Event: "repaired", Message: repaired})
	}
	for _, g := range r.targets {
		c := r.one(ctx, g)
		r.report.Certificates = append(r.report.Certificates, c)
		r.report.Changed = r.report.Changed || c.Changed
	}
	r.whatNext()
	return report.At("store", r.lineage.Save(r.record))
}

func (r *revocation) warning(format string, values ...any) {
	text := fmt.Sprintf(format, values...)
	r.report.Warnings = append(r.report.Warnings, text)
	r.say("warning", text)
}

// one revokes one certificate. What is noted before the CA is asked survives a killed process: the certificate is then
// replaced, and the next run of the command finds out whether it is revoked.
func (r *revocation) one(ctx context.Context, g state.Generation) revokedReport {
	c := revokedReport{Served: r.served[g.Serial], Key: report.Key{Key: string(g.Key), Serial: g.Serial, NotBefore: g.NotBefore.UTC(), NotAfter: g.NotAfter.UTC(), Issuer: g.Issuer, SPKI: g.SPKI}}
	_, noted := r.lineage.Revocation(g.ID)
	if err := r.note(g, r.reason == acme.KeyCompromise, false); err != nil {
		return c.failed(report.At("store", err))
	}
	if time.Now().After(g.NotAfter) {
		r.warning("the certificate with serial %s expired at %s: there is nothing to revoke", g.Serial, report.Minute(g.NotAfter))
		return c
	}
	already, err := r.ask(ctx, g, &c)
	if err != nil {
		if note, _ := r.lineage.Revocation(g.ID); !noted && !note.KeyCompromised && !report.IsTemporary(err) { // the CA has refused it
			err = errors.Join(err, r.lineage.DropRevocation(g.ID))
		}
		r.record.Log(state.Event{At: time.Now(), Event: "failed", Key: g.Key, Serial: g.Serial, Message: "revoke: " + report.OneLine(err.Error())})
		return c.failed(report.At("revoke", err))
	}
	if err := r.note(g, false, true); err != nil {
		return c.failed(report.At("store", err))
	}
	if c.Revoked, c.Changed = true, !already; already {
		r.say("revoke", fmt.Sprintf("%s, serial %s, had been revoked before", g.Key, g.Serial))
		return c
	}
	r.record.Log(state.Event{At: time.Now(), Event: "revoked", Key: g.Key, Serial: g.Serial, Message: r.reason.String()})
	r.say("revoke", fmt.Sprintf("%s, serial %s, is revoked (%s)", g.Key, g.Serial, r.reason))
	return c
}

// note adds to what is stored about the revocation of a certificate; what was noted before stays.
func (r *revocation) note(g state.Generation, compromised, done bool) error {
	note, ok := r.lineage.Revocation(g.ID)
	if !ok {
		note = state.Revocation{Reason: r.reason.String(), Asked: time.Now().UTC()}
	}
	if compromised {
		note.KeyCompromised = true
	}
	if done && note.Done.IsZero() {
		note.Done = time.Now().UTC()
	}
	return r.lineage.SaveRevocation(g.ID, note)
}

// signer is who asks for a revocation (RFC 8555 section 7.6).
type signer struct {
	name string        // as reports call it
	key  crypto.Signer // the certificate's own; nil: the account's
}

// ask has the CA revoke it, signed by the key that fits the reason, and by the other where that one is not taken.
func (r *revocation) ask(ctx context.Context, g state.Generation, c *revokedReport) (already bool, err error) {
	b, err := r.lineage.Bundle(g.ID)
	if err != nil {
		return false, report.At("state", err)
	}
	client, err := r.authority(g.Directory)
	if err != nil {
		return false, err
	}
	defer client.Close()
	signers := []signer{{"account", nil}, {"key", b.Key()}}
	if r.reason == acme.KeyCompromise {
		signers = []signer{{"key", b.Key()}, {"account", nil}}
	}
	var refused error
	for _, s := range signers {
		if refused != nil && s.key != nil {
			if err := r.giveUpKey(g, refused); err != nil {
				return false, err
			}
		}
		request := acme.Revocation{Certificate: b.Leaf(), Reason: r.reason, Key: s.key, Progress: r.say, Notice: r.accountChanged}
		c.SignedBy = s.name
		already, err = client.Revoke(ctx, request)
		if err == nil || !request.ByOtherKey(err) {
			return already, err
		}
		refused = errors.Join(refused, err)
	}
	return false, refused
}

// giveUpKey forbids the key of a certificate before it signs for another reason than its compromise: Let's Encrypt takes
// such a signature for proof of that, revokes all certificates of the key, and certifies it no more.
func (r *revocation) giveUpKey(g state.Generation, cause error) error {
	r.warning("the account cannot revoke the certificate with serial %s (%s): its own key signs. The CA may take that key for compromised, so that it is not used again",
		g.Serial, report.OneLine(cause.Error()))
	generations, err := r.lineage.Generations()
	for _, other := range generations {
		if other.SPKI == g.SPKI {
			err = errors.Join(err, r.note(other, true, false))
		}
	}
	return report.At("store", err)
}

// accountChanged puts what an operator has to know about the account into the report and the history.
func (r *revocation) accountChanged(text string) {
	r.warning("%s", text)
	r.record.Log(state.Event{At: time.Now(), Event: "account", Message: text})
}

// authority is the CA that issued a certificate, also one that is not configured any more.
func (w *world) authority(directory string) (*acme.Client, error) {
	if client := w.cas.At(directory); client != nil {
		return client, nil
	}
	other := *w.config
	other.ACME.Directories = []string{directory}
	roots, err := readRoots("acme.ca_file", other.ACME.CAFile)
	if err != nil {
		return nil, err
	}
	if roots != nil {
		roots = withSystemRoots(roots, other.ACME.CAFile)
	}
	settings, err := authorities(&other, w.version, roots)
	if err != nil {
		return nil, err
	}
	return acme.New(settings[0], w.store), nil
}

func (c revokedReport) failed(err error) revokedReport {
	c.Error, c.code = report.NewError(err), report.CodeOf(err)
	return c
}

// whatNext says what becomes of the certificate, and warns while it is in service.
func (r *revocation) whatNext() {
	ended, newKey := false, false
	for i, g := range r.targets {
		note, noted := r.lineage.Revocation(g.ID)
		if !noted {
			continue
		}
		newKey = newKey || note.KeyCompromised
		ended = ended || r.record.Slot(g.Key).Current == g.ID
		if r.report.Certificates[i].Served {
			r.warning("the certificate with serial %s is still in service: a sender that asks for revocations does not accept it", g.Serial)
		}
	}
	_, configured := r.config.Certificate(r.certificate.Name)
	switch {
	case !ended:
	case !configured:
		r.report.Next = r.certificate.Name + " is not in the configuration: nothing takes the place of the certificate"
	default:
		r.report.Next = "the next pass orders another certificate"
		if newKey {
			r.report.Next += ", with a new key"
		}
		r.report.Next += fmt.Sprintf(": mxcert renew %s does it now, a daemon within the hour", r.certificate.Name)
		if r.reason == acme.CessationOfOperation {
			r.report.Next += "; take it out of the configuration if it is not wanted any more"
		}
	}
}

// revokeResult prints the report and chooses the exit code, by the rules of a report on certificates.
func (a *app) revokeResult(r *revokeReport) error {
	var sum report.Report
	for _, c := range r.Certificates {
		sum.Certificates = append(sum.Certificates, report.Certificate{Code: c.code})
	}
	code := sum.ExitCode()
	switch {
	case a.json:
		if err := a.printJSON(r); err != nil {
			return err
		}
	case !a.quiet || code != report.CodeOK:
		a.printRevoked(r)
	}
	if code == report.CodeOK && r.Changed && a.detailedExit {
		code = report.CodeChanged
	}
	if code != report.CodeOK {
		return &report.Exit{Code: code}
	}
	return nil
}

func (a *app) printRevoked(r *revokeReport) {
	fmt.Fprintf(a.stdout, "%s: reason %s\n", r.Name, r.Reason)
	for _, c := range r.Certificates {
		what := "not revoked"
		switch {
		case c.Changed:
			what = "revoked, signed by the " + map[string]string{"account": "account", "key": "certificate's own key"}[c.SignedBy]
		case c.Revoked:
			what = "had been revoked before"
		}
		fmt.Fprintf(a.stdout, "  %-12s serial %s: %s\n", c.Key, c.Serial, what)
		if c.Error != nil {
			fmt.Fprintf(a.stdout, "  error        %s: %s\n", c.Error.Stage, report.OneLine(c.Error.Message))
			if c.Error.Hint != "" {
				fmt.Fprintf(a.stdout, "  next step    %s\n", c.Error.Hint)
			}
		}
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(a.stdout, "  warning      %s\n", w)
	}
	if r.Next != "" {
		fmt.Fprintf(a.stdout, "  next         %s\n", r.Next)
	}
}

// revoked says why the current certificate of a key type has to be replaced; "" where it was not revoked.
func (p *pass) revoked(key bundle.KeyType) string {
	note, ok := p.lineage.Revocation(p.record.Slot(key).Current)
	switch {
	case !ok:
		return ""
	case !note.Done.IsZero():
		return "it was revoked"
	case note.KeyCompromised:
		return "its key must not be used any more"
	}
	return "its revocation was begun"
}
