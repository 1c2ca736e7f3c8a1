package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"mxcert/acme/bundle"
	"mxcert/deploy/starttls"
)

const (
	// confirmPatience is for a look at a server that was told nothing.
	confirmPatience = 2 * time.Second
	// closedPatience is how long a closed port or a 454 is borne after a change. A reload of Exim closes its port for
	// some 30 ms, and GnuTLS stays poisoned for 5 s after a mismatched pair; what lasts longer is a fault, and every
	// second of it is mail delayed.
	closedPatience = 10 * time.Second
	firstPause     = 20 * time.Millisecond
	lastPause      = time.Second
)

// probe is one handshake to make: an endpoint and a key type.
type probe struct {
	address, serverName string
	key                 bundle.KeyType
	ask                 starttls.KeyType
	want                *bundle.Bundle
	times               int // in a row that the certificate has to be seen: a server may have several processes
}

// timesOfMany is how often servers are asked that answer with many processes, old and new ones for a while.
const timesOfMany = 3

// endpoints are the addresses that must show the certificate.
func (p *pass) endpoints() []string {
	if p.certificate.Verify.EndpointsSet {
		return p.certificate.Verify.Endpoints
	}
	var ports []string
	if p.hasKind("exim", "postfix", "files") || !p.hasKind("dovecot") {
		ports = append(ports, "25")
	}
	if p.hasKind("dovecot") {
		ports = append(ports, "993")
	}
	return defaultEndpoints(ports...)
}

// defaultEndpoints are local ports, on IPv6 only where something listens there.
func defaultEndpoints(ports ...string) []string {
	var endpoints []string
	dialer := net.Dialer{Timeout: time.Second}
	for _, port := range ports {
		endpoints = append(endpoints, "127.0.0.1:"+port)
		if conn, err := dialer.DialContext(context.Background(), "tcp", "[::1]:"+port); err == nil {
			_ = conn.Close()
			endpoints = append(endpoints, "[::1]:"+port)
		}
	}
	return endpoints
}

// probes lists the handshakes. With one key type the server's own choice is looked at, with several each type is asked
// for by itself.
func (p *pass) probes() []probe {
	var probes []probe
	times := 1
	if p.hasKind("postfix", "dovecot") {
		times = timesOfMany
	}
	for _, address := range p.endpoints() {
		for i, key := range p.keys() {
			if p.bundles[i] == nil {
				continue
			}
			ask := starttls.Any
			if len(p.certificate.Keys) > 1 {
				ask = askFor(key)
			}
			probes = append(probes, probe{address: address, serverName: serverName(p.certificate.Domains), key: key, ask: ask, want: p.bundles[i], times: times})
		}
	}
	return probes
}

// serverName is the name to send in SNI: the first, which senders use; a wildcard cannot be asked for, so some host below it.
func serverName(domains []string) string {
	name := domains[0]
	if rest, wild := strings.CutPrefix(name, "*."); wild {
		return "mx." + rest
	}
	return name
}

// awaitServed shakes hands at every endpoint, all at once, until each shows the current certificate or time is up.
func (p *pass) awaitServed(ctx context.Context, patience time.Duration) error {
	return p.await(ctx, patience, func(e endpointReport) bool { return e.Matches })
}

// awaitOther is the proof of a way back: handshakes work, and show another certificate.
func (p *pass) awaitOther(ctx context.Context, patience time.Duration) error {
	return p.await(ctx, patience, func(e endpointReport) bool { return e.Serial != "" && !e.Matches })
}

func (p *pass) await(ctx context.Context, patience time.Duration, satisfied func(endpointReport) bool) error {
	probes := p.probes()
	reports := make([]endpointReport, len(probes))
	// Patience bounds the repeating. One handshake may take longer: many servers delay their greeting on purpose.
	ctx, cancel := context.WithTimeout(ctx, max(patience, p.certificate.Verify.Timeout))
	defer cancel()
	var wait sync.WaitGroup
	for i, pr := range probes {
		wait.Go(func() { reports[i] = repeat(ctx, patience, pr.times, pr.once, satisfied) })
	}
	wait.Wait()
	p.result.Endpoints = reports
	var problems []error
	for _, r := range reports {
		if satisfied(r) {
			p.say("verify", fmt.Sprintf("%s shows serial %s (%s)", r.Address, r.Serial, r.took.Round(time.Millisecond)))
			continue
		}
		problems = append(problems, &notServed{report: r})
	}
	return errors.Join(problems...)
}

// servesAnother reports whether the last look found working servers with another certificate, or TLS out of order:
// something that a reload can mend. A closed port is not.
func (p *pass) servesAnother() bool {
	return slices.ContainsFunc(p.result.Endpoints, func(e endpointReport) bool {
		return !e.Matches && (e.Error == "" || e.kind == starttls.KindTLSUnavailable || e.kind == starttls.KindValidationFailure || e.kind == starttls.KindSTARTTLSNotSupported)
	})
}

// repeat shakes hands until satisfied as many times in a row, until a closed port or 454 has lasted too long, or until ctx
// ends. One attempt that took long shows nothing of the kind: a connection that was made in the moment of a reload may belong
// to nobody, and hang for a quarter of a minute while the server answers all others.
func repeat(ctx context.Context, patience time.Duration, times int, once func(context.Context) endpointReport, satisfied func(endpointReport) bool) endpointReport {
	start, seen := time.Now(), 0
	for pause := firstPause; ; pause = min(pause*2, lastPause) {
		began := time.Now()
		r := once(ctx)
		if seen++; !satisfied(r) {
			seen = 0
		} else if seen < times {
			pause = firstPause / 2 // the next look comes at once
			continue
		}
		hopeless := r.Error != "" && began.Sub(start) > closedPatience
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

func (pr probe) once(ctx context.Context) endpointReport {
	r := endpointReport{Address: pr.address, ServerName: pr.serverName, Key: string(pr.key)}
	result, err := starttls.Handshake(ctx, starttls.Request{Address: pr.address, ServerName: pr.serverName, KeyType: pr.ask})
	if err != nil {
		r.Error, r.hint, r.kind = err.Error(), hintOf(err), kindOf(err)
		return r
	}
	r.took = result.Elapsed
	r.Serial = bundle.SerialOf(result.Chain[0])
	r.Matches = starttls.Match(result.Chain, pr.want.Leaf())
	return r
}

// notServed is an endpoint that does not show the certificate.
type notServed struct{ report endpointReport }

func (e *notServed) Error() string {
	if e.report.Error != "" {
		return e.report.Error
	}
	if e.report.Matches {
		return fmt.Sprintf("%s shows the certificate with serial %s", e.report.Address, e.report.Serial)
	}
	return fmt.Sprintf("%s shows another certificate (serial %s)", e.report.Address, e.report.Serial)
}

// Kind is that of the handshake, or "not-served".
func (e *notServed) Kind() string {
	if e.report.kind != "" {
		return e.report.kind
	}
	return "not-served"
}

// Hint is that of the handshake, or where to look.
func (e *notServed) Hint() string {
	if e.report.hint != "" {
		return e.report.hint
	}
	return "does the mail server read the configured paths? (exim4 -bP tls_certificate tls_privatekey; postconf -x smtpd_tls_chain_files; doveconf -h ssl_cert ssl_key)"
}
