// Package served is the last of the four truths: it finds out which certificate each endpoint shows. A [Probe] is a handshake to make, and
// a [Result] is what the handshake has shown. [Look] asks once. [Await] asks again and again until every endpoint shows what it should, or
// until the time is up.
//
// The package changes nothing and reloads nothing. It does not judge whether senders would accept what they see.
package served

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mxcert/acme/bundle"
	"mxcert/deploy/starttls"
)

const (
	// failingPatience is how long after a change a 454 or another failure is accepted: GnuTLS answers 454 for 5 s after it has read a
	// certificate and a key that do not match. If it lasts longer, it is a fault, and every second of it delays mail.
	failingPatience = 10 * time.Second
	// closedPatience is how long a closed port is accepted. A reload of Exim closes its port for some 30 ms; but if a session holds the old
	// socket at that moment, Exim waits for 30 s before it tries again ("Address already in use"). Old files would not open it sooner.
	closedPatience = 40 * time.Second
	firstPause     = 20 * time.Millisecond
	lastPause      = time.Second
	// timesOfMany is how often to ask a server that answers with many processes, because for a while some of them are old and some new.
	timesOfMany = 3
	// mostAtOnce limits the handshakes of one Look that are under way at once. A certificate may have a hundred names, each with addresses, and
	// mail servers limit the connections of one client: Postfix to 50 (smtpd_client_connection_count_limit).
	mostAtOnce = 32
)

// Probe is one handshake to make.
type Probe struct {
	Address    string           // host:port
	ServerName string           // for SNI
	Key        string           // the key type as reports name it; "any" if the server chooses
	Ask        starttls.KeyType // the key type to ask for
	Want       *bundle.Bundle   // the bundle that should be shown; nil if there is none
	Times      int              // how often in a row the server must show it; 0 means once
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

// Probes lists the handshakes for certificates that every endpoint must show. If there is one key type, the server chooses its certificate;
// if there are several, each is asked for. A nil bundle is not asked for. If a server has many processes (Postfix, Dovecot), it must give
// the right answer several times in a row.
func Probes(endpoints []string, serverName string, keys []bundle.KeyType, bundles []*bundle.Bundle, manyProcesses bool) []Probe {
	var probes []Probe
	for _, address := range endpoints {
		for i, want := range bundles {
			if want == nil {
				continue
			}
			p := Probe{Address: address, ServerName: serverName, Key: string(keys[i]), Ask: Ask(keys, i), Want: want, Times: 1}
			if manyProcesses {
				p.Times = timesOfMany
			}
			probes = append(probes, p)
		}
	}
	return probes
}

// Ask returns the key type to ask for, so that the server shows its certificate of the i-th of several key types.
func Ask(keys []bundle.KeyType, i int) starttls.KeyType {
	switch {
	case len(keys) < 2:
		return starttls.Any
	case keys[i].ECDSA():
		return starttls.ECDSA
	}
	return starttls.RSA
}

// Look makes all handshakes once, a few dozen in parallel. The results are in the order of the probes.
func Look(ctx context.Context, probes []Probe) []Result {
	return each(probes, mostAtOnce, func(p Probe) Result { return p.shake(ctx) })
}

// Matching accepts a result that shows the wanted certificate.
func Matching(r Result) bool { return r.Matches }

// Another accepts a working handshake that shows a certificate other than the wanted one. It proves that a deployment is undone.
func Another(r Result) bool { return r.Err == nil && !r.Matches }

// Await makes all handshakes in parallel. It repeats each one until its result satisfies, until a closed port or 454 has lasted too long,
// or until patience is over. limit also limits a single handshake. It may be longer than patience, because many servers delay their
// greeting on purpose.
func Await(ctx context.Context, probes []Probe, patience, limit time.Duration, satisfied func(Result) bool) []Result {
	ctx, cancel := context.WithTimeout(ctx, max(patience, limit))
	defer cancel()
	return each(probes, len(probes), func(p Probe) Result {
		return repeat(ctx, patience, p.Times, func() Result { return p.shake(ctx) }, satisfied)
	})
}

// each looks at the probes, at most so many at once.
func each(probes []Probe, most int, look func(Probe) Result) []Result {
	results := make([]Result, len(probes))
	turns := make(chan struct{}, most)
	var wait sync.WaitGroup
	for i, p := range probes {
		turns <- struct{}{}
		wait.Go(func() {
			defer func() { <-turns }()
			results[i] = look(p)
		})
	}
	wait.Wait()
	return results
}

// repeat makes handshakes until satisfied accepts as many results in a row, until a closed port or 454 has lasted too long, or until ctx
// ends. One slow attempt does not prove that the server is down: a connection that was made at the moment of a reload may belong to no
// process, and hang for a quarter of a minute while the server answers all others. What the end of ctx cuts off says less about the server than
// the attempt before it.
func repeat(ctx context.Context, patience time.Duration, times int, once func() Result, satisfied func(Result) bool) Result {
	start, seen := time.Now(), 0
	var before *Result
	for pause := firstPause; ; pause = min(pause*2, lastPause) {
		asked := time.Now()
		r := once()
		if ctx.Err() != nil && r.Err != nil && before != nil {
			return *before
		}
		before = &r
		if seen++; !satisfied(r) {
			seen = 0
		} else if seen < times {
			pause = firstPause / 2 // the next attempt follows at once
			continue
		}
		hopeless := r.Err != nil && asked.Sub(start) > patienceWith(r.Err)
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

// patienceWith returns how long a failure may last after a change.
func patienceWith(err error) time.Duration {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return closedPatience
	}
	return failingPatience
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

// All reports whether every result shows the wanted certificate. It is true for an empty list.
func All(results []Result) bool {
	return !slices.ContainsFunc(results, func(r Result) bool { return !r.Matches })
}

// Unavailable reports whether a server answers 454, that is, it offers TLS but cannot load its files.
func Unavailable(results []Result) bool {
	return slices.ContainsFunc(results, func(r Result) bool { return r.kind() == starttls.KindTLSUnavailable })
}

// Unclear accepts a result that does not say whether the server has a certificate of the asked key type. A server that has none may close the
// connection, so that counts as an answer.
func Unclear(r Result) bool {
	e, ok := errors.AsType[interface {
		error
		Kind() string
		Temporary() bool
	}](r.Err)
	return r.Shown == nil && ok && (e.Kind() == starttls.KindNotJudged || e.Temporary() && e.Kind() != starttls.KindConnectionLost)
}

// Reloadable reports whether a reload can repair what a result shows: a working server with another certificate, or TLS that does not work.
// A reload cannot repair a closed port.
func Reloadable(results []Result) bool {
	return slices.ContainsFunc(results, func(r Result) bool {
		return !r.Matches && (r.Err == nil || slices.Contains([]string{starttls.KindTLSUnavailable, starttls.KindValidationFailure, starttls.KindNotJudged, starttls.KindSTARTTLSNotSupported}, r.kind()))
	})
}

func (r Result) kind() string {
	if e, ok := errors.AsType[*starttls.Error](r.Err); ok {
		return e.Kind()
	}
	return ""
}

// Problems returns an error for each result that does not satisfy, or nil if all do. servers are the kinds of servers that the endpoints
// may be (exim, postfix, dovecot): a hint names only their commands.
func Problems(results []Result, satisfied func(Result) bool, servers ...string) error {
	var problems []error
	for _, r := range results {
		if !satisfied(r) {
			problems = append(problems, &Error{Result: r, servers: servers})
		}
	}
	return errors.Join(problems...)
}

// Error says that an endpoint does not show what it should.
type Error struct {
	Result  Result
	servers []string
}

// Error returns the failure of the handshake, or says which certificate the endpoint shows.
func (e *Error) Error() string {
	switch {
	case e.Result.Err != nil:
		return e.Result.Err.Error()
	case e.Result.Matches:
		return fmt.Sprintf("%s shows the certificate with serial %s", e.Result.Address, e.Result.Serial)
	}
	return fmt.Sprintf("%s shows another certificate (serial %s)", e.Result.Address, e.Result.Serial)
}

// Kind returns the kind of the handshake's failure, or "not-served".
func (e *Error) Kind() string {
	if kind := e.Result.kind(); kind != "" {
		return kind
	}
	return "not-served"
}

// Hint returns the hint of the handshake's failure, or says where to look.
func (e *Error) Hint() string {
	if shake, ok := errors.AsType[*starttls.Error](e.Result.Err); ok && shake.Hint() != "" {
		return shake.Hint()
	}
	hint := "does the mail server read the configured paths?"
	if commands := e.commands(); len(commands) > 0 {
		hint += " (" + strings.Join(commands, "; ") + ")"
	}
	return hint
}

// UsualServers lists the kinds of mail servers that usually listen at the port of an endpoint; nil for an unusual port.
func UsualServers(endpoint string) []string {
	_, port, _ := net.SplitHostPort(endpoint)
	switch port {
	case "25", "465", "587":
		return []string{"exim", "postfix"}
	case "110", "143", "993", "995", "4190":
		return []string{"dovecot"}
	}
	return nil
}

// commands lists what shows the paths that the server at the endpoint reads.
func (e *Error) commands() (list []string) {
	usual := UsualServers(e.Result.Address)
	for _, server := range e.servers {
		onlyDovecot := server == "dovecot" && len(e.servers) == 1 // which can take mail for submission, too
		if usual != nil && !slices.Contains(usual, server) && !onlyDovecot {
			continue
		}
		switch server {
		case "dovecot":
			list = append(list, "`doveconf -n`")
		case "exim":
			list = append(list, "`exim4 -bP tls_certificate tls_privatekey`")
		case "postfix":
			list = append(list, "`postconf -x smtpd_tls_chain_files`")
		}
	}
	return list
}
