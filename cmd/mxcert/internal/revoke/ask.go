package revoke

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"mxcert/acme"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// CarryOut revokes the targets under the lineage's lock, so that no pass of a daemon runs at the same time. Failures of single
// certificates are in the report.
func (r *Revocation) CarryOut(ctx context.Context, say acme.Progress) (*Report, error) {
	r.say = say
	unlock, err := pass.Lock(ctx, r.lineage, nil, say)
	if err != nil {
		return nil, report.At("lock", err)
	}
	defer unlock()
	record, repaired, err := r.lineage.Load()
	if err != nil {
		return nil, report.At("state", err)
	}
	r.record = record
	if repaired != "" {
		r.warn("%s", repaired)
		r.record.Log(state.Event{At: time.Now(), Event: "repaired", Message: repaired})
	}
	for _, g := range r.Targets {
		c := r.one(ctx, g)
		r.report.Certificates = append(r.report.Certificates, c)
		r.report.Changed = r.report.Changed || c.Changed
	}
	r.whatNext()
	r.tellFleet(ctx)
	return r.report, report.At("store", r.lineage.Save(r.record))
}

// tellFleet tells the other hosts, which have the same certificates. What they cannot be told now, the next pass tells them.
func (r *Revocation) tellFleet(ctx context.Context) {
	r.runner.TellRevoked(r.lineage)
	if err := r.runner.Tell(ctx); err != nil {
		r.warn("the other hosts of the fleet do not know it yet (%s); the daemon tells them when the store of the fleet is back", report.OneLine(err.Error()))
	}
}

func (r *Revocation) warn(format string, values ...any) {
	text := fmt.Sprintf(format, values...)
	r.report.Warnings = append(r.report.Warnings, text)
	r.say("warning", text)
}

// one revokes one certificate.
func (r *Revocation) one(ctx context.Context, g state.Generation) Certificate {
	c := Certificate{Served: r.Served[g.Serial], Key: report.Key{Key: string(g.Key), Serial: g.Serial, NotBefore: g.NotBefore.UTC(), NotAfter: g.NotAfter.UTC(), Issuer: g.Issuer, SPKI: g.SPKI}}
	_, noted := r.lineage.Revocation(g.ID)
	if err := r.note(g, r.reason == acme.KeyCompromise, false); err != nil {
		return c.failed(report.At("store", err))
	}
	if time.Now().After(g.NotAfter) {
		r.warn("the certificate with serial %s expired at %s: there is nothing to revoke", g.Serial, report.Minute(g.NotAfter))
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
		r.say("revoke", fmt.Sprintf("%s, serial %s, was already revoked", g.Key, g.Serial))
		return c
	}
	r.record.Log(state.Event{At: time.Now(), Event: "revoked", Key: g.Key, Serial: g.Serial, Message: r.reason.String()})
	r.say("revoke", fmt.Sprintf("%s, serial %s, is revoked (%s)", g.Key, g.Serial, r.reason))
	return c
}

func (c Certificate) failed(err error) Certificate {
	c.Error, c.Code = report.NewError(err), report.CodeOf(err)
	return c
}

// note adds to the stored facts about the revocation of a certificate; earlier ones stay.
func (r *Revocation) note(g state.Generation, compromised, done bool) error {
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

// signer signs a request for a revocation (RFC 8555 section 7.6).
type signer struct {
	name string        // its name in reports
	key  crypto.Signer // the certificate's own key; nil: the account's key
}

// ask requests the revocation, signed with the key that fits the reason. If the CA refuses that, ask signs with the other key.
func (r *Revocation) ask(ctx context.Context, g state.Generation, c *Certificate) (already bool, err error) {
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

// authority returns the client of the CA that issued a certificate, even if that CA is no longer configured. If it is not known, this is
// the CA that is asked first for certificates: another one refuses.
func (r *Revocation) authority(directory string) (*acme.Client, error) {
	if directory == state.UnknownCA {
		directory = r.runner.Host.Directories[0]
	}
	if client := r.runner.CAs.At(directory); client != nil {
		return client, nil
	}
	settings, err := r.runner.Host.Authority(directory, r.runner.Release)
	if err != nil {
		return nil, err
	}
	return acme.New(settings, r.runner.Store), nil
}

// giveUpKey forbids further use of a certificate's key before that key signs for a reason other than its compromise: Let's
// Encrypt treats such a signature as proof of a compromise, revokes all certificates of the key, and never certifies it again.
func (r *Revocation) giveUpKey(g state.Generation, cause error) error {
	r.warn("the account cannot revoke the certificate with serial %s (%s), so the certificate's own key signs. The CA may treat that key as compromised; mxcert does not use it again",
		g.Serial, report.OneLine(cause.Error()))
	generations, err := r.lineage.Generations()
	for _, other := range generations {
		if other.SPKI == g.SPKI {
			err = errors.Join(err, r.note(other, true, false))
		}
	}
	return report.At("store", err)
}

// accountChanged writes a change of the account into the report and the history: the operator has to know of it.
func (r *Revocation) accountChanged(text string) {
	r.warn("%s", text)
	r.record.Log(state.Event{At: time.Now(), Event: "account", Message: text})
}

// whatNext reports how the certificate will be replaced, and warns if it is still in service.
func (r *Revocation) whatNext() {
	ended, newKey := false, false
	for i, g := range r.Targets {
		note, noted := r.lineage.Revocation(g.ID)
		if !noted {
			continue
		}
		newKey = newKey || note.KeyCompromised
		ended = ended || r.record.Slot(g.Key).Current == g.ID
		if r.report.Certificates[i].Served {
			r.warn("the certificate with serial %s is still in service: a sender that checks for revocation does not accept it", g.Serial)
		}
	}
	switch {
	case !ended:
	case !r.configured:
		r.report.Next = r.name + " is not in the configuration: no other certificate replaces it"
	default:
		r.report.Next = "the next pass orders another certificate"
		if newKey {
			r.report.Next += ", with a new key"
		}
		r.report.Next += fmt.Sprintf(": mxcert renew %s does it now, a daemon within the hour", r.name)
		if r.reason == acme.CessationOfOperation {
			r.report.Next += "; remove it from the configuration if you no longer need it"
		}
	}
}
