// Package served is the last of the four truths: which certificate each endpoint serves. A [Probe] is one handshake to make,
// and a [Result] is what it has shown. [Look] asks once; [Await] asks again until every endpoint serves what it should, or the
// time is up.
//
// It only looks: it reloads nothing, and it does not judge a certificate as senders would.
package served

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mxcert/acme/bundle"
	"mxcert/deploy/starttls"
)

const (
	// closedPatience is how long a closed port or a 454 is tolerated after a change. A reload of Exim closes its port for some
	// 30 ms, and GnuTLS answers 454 for 5 s after it saw a mismatched pair. If it lasts longer, there is a fault, and every
	// second of it delays mail.
	closedPatience = 10 * time.Second
	firstPause     = 20 * time.Millisecond
	lastPause      = time.Second
	// timesOfMany is how often Await asks a server that answers with many processes: old and new ones for a while.
	timesOfMany = 3
)

// Probe is one handshake to make.
type Probe struct {
	Address    string           // host:port
	ServerName string           // for SNI
	Key        string           // the key type as reports call it; "any" if the server chooses
	Ask        starttls.KeyType // the key type to ask for
	Want       *bundle.Bundle   // the certificate that should be served; nil if it is not known
	Times      int              // how often in a row it has to be served; 0 means once
}

// Result is what one handshake has shown.
type Result struct {
	Probe
	Shown   *starttls.Result // nil if the handshake failed
	Serial  string           // of the leaf, lower-case hexadecimal; "" if the handshake failed
	Matches bool             // the leaf is the wanted one
	Err     error            // why the handshake failed
	At      time.Time        // when it was made
}

// Probes lists the handshakes for certificates that every endpoint must serve. With one key type the server chooses; with
// several, each is asked for. There is no handshake for a nil bundle. For servers with many processes (Postfix, Dovecot),
// several answers in a row must be right.
func Probes(endpoints []string, serverName string, keys []bundle.KeyType, bundles []*bundle.Bundle, manyProcesses bool) []Probe {
	var probes []Probe
	for _, address := range endpoints {
		for i, key := range keys {
			if bundles[i] == nil {
				continue
			}
			p := Probe{Address: address, ServerName: serverName, Key: string(key), Ask: Ask(keys, i), Want: bundles[i], Times: 1}
			if manyProcesses {
				p.Times = timesOfMany
			}
			probes = append(probes, p)
		}
	}
	return probes
}

// Ask returns the key type to ask a server for, to see its certificate of the i-th of several key types.
func Ask(keys []bundle.KeyType, i int) starttls.KeyType {
	switch {
	case len(keys) < 2:
		return starttls.Any
	case keys[i].ECDSA():
		return starttls.ECDSA
	}
	return starttls.RSA
}

// Look makes all handshakes, at once and once each. The results are in the order of the probes.
func Look(ctx context.Context, probes []Probe) []Result {
	return each(probes, func(p Probe) Result { return p.shake(ctx) })
}

// Matching is satisfied by the wanted certificate.
func Matching(r Result) bool { return r.Matches }

// Another is satisfied by a working handshake that shows a certificate other than the wanted one: it proves that a deployment
// was taken back.
func Another(r Result) bool { return r.Err == nil && !r.Matches }

// Await makes all handshakes at once and repeats each until it satisfies, until a closed port or 454 has lasted too long, or
// until patience is over. patience bounds the repetition; limit also bounds a single handshake, which may take longer: many
// servers delay their greeting on purpose.
func Await(ctx context.Context, probes []Probe, patience, limit time.Duration, satisfied func(Result) bool) []Result {
	ctx, cancel := context.WithTimeout(ctx, max(patience, limit))
	defer cancel()
	return each(probes, func(p Probe) Result {
		return repeat(ctx, patience, p.Times, func() Result { return p.shake(ctx) }, satisfied)
	})
}

func each(probes []Probe, look func(Probe) Result) []Result {
	results := make([]Result, len(probes))
	var wait sync.WaitGroup
	for i, p := range probes {
		wait.Go(func() { results[i] = look(p) })
	}
	wait.Wait()
	return results
}

// repeat shakes hands until satisfied as many times in a row, until a closed port or 454 has lasted too long, or until ctx
// ends. A single slow attempt does not prove that: a connection from the moment of a reload may belong to no process, and hang
// for 15 seconds while the server answers all others.
func repeat(ctx context.Context, patience time.Duration, times int, once func() Result, satisfied func(Result) bool) Result {
	start, seen := time.Now(), 0
	for pause := firstPause; ; pause = min(pause*2, lastPause) {
		asked := time.Now()
		r := once()
		if seen++; !satisfied(r) {
			seen = 0
		} else if seen < times {
			pause = firstPause / 2 // the next handshake follows at once
			continue
		}
		hopeless := r.Err != nil && asked.Sub(start) > closedPatience
		if satisfied(r) || hopeless || ctx.Err() != nil || time.Since(start)+pause > patience {
			return r
		}
		select {
		case <-ctx.Done():
			return r
		case <-time.After(pause):
		}
	}
}

func (p Probe) shake(ctx context.Context) Result {
	r := Result{Probe: p, At: time.Now().UTC()}
	r.Shown, r.Err = starttls.Handshake(ctx, starttls.Request{Address: p.Address, ServerName: p.ServerName, KeyType: p.Ask})
	if r.Err != nil {
		r.Shown = nil
		return r
	}
	r.Serial = bundle.SerialOf(r.Shown.Chain[0])
	r.Matches = p.Want != nil && starttls.Match(r.Shown.Chain, p.Want.Leaf())
	return r
}

// All reports whether every result shows the wanted certificate; true for an empty list.
func All(results []Result) bool {
	return !slices.ContainsFunc(results, func(r Result) bool { return !r.Matches })
}

// Unavailable reports whether a server answers 454: it offers TLS and cannot load its files.
func Unavailable(results []Result) bool {
	return slices.ContainsFunc(results, func(r Result) bool { return r.kind() == starttls.KindTLSUnavailable })
}

// Reloadable reports whether a reload can repair what a result shows: a working server with another certificate, or broken TLS.
// It cannot repair a closed port.
func Reloadable(results []Result) bool {
	return slices.ContainsFunc(results, func(r Result) bool {
		return !r.Matches && (r.Err == nil || slices.Contains([]string{starttls.KindTLSUnavailable, starttls.KindValidationFailure, starttls.KindSTARTTLSNotSupported}, r.kind()))
	})
}

func (r Result) kind() string {
	if e, ok := errors.AsType[*starttls.Error](r.Err); ok {
		return e.Kind()
	}
	return ""
}

// Problems returns an error for each result that does not satisfy; nil if all do.
func Problems(results []Result, satisfied func(Result) bool) error {
	var problems []error
	for _, r := range results {
		if !satisfied(r) {
			problems = append(problems, &Error{Result: r})
		}
	}
	return errors.Join(problems...)
}

// Error says that an endpoint does not serve what it should.
type Error struct{ Result Result }

// Error returns the failure of the handshake, or says which certificate is served.
func (e *Error) Error() string {
	switch {
	case e.Result.Err != nil:
		return e.Result.Err.Error()
	case e.Result.Matches:
		return fmt.Sprintf("%s serves the certificate with serial %s", e.Result.Address, e.Result.Serial)
	}
	return fmt.Sprintf("%s serves another certificate (serial %s)", e.Result.Address, e.Result.Serial)
}

// Kind returns the kind of the handshake's error, or "not-served".
func (e *Error) Kind() string {
	if kind := e.Result.kind(); kind != "" {
		return kind
	}
	return "not-served"
}

// Hint returns the hint of the handshake's error, or says where to look.
func (e *Error) Hint() string {
	if shake, ok := errors.AsType[*starttls.Error](e.Result.Err); ok && shake.Hint() != "" {
		return shake.Hint()
	}
	return "does the mail server read the configured paths? (exim4 -bP tls_certificate tls_privatekey; postconf -x smtpd_tls_chain_files; doveconf -h ssl_cert ssl_key)"
}
