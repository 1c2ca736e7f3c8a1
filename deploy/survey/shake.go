package survey

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"mxcert/deploy/starttls"
	"mxcert/deploy/verdict"
)

// endpoint is one address and port of a host.
type endpoint struct {
	address    netip.Addr // invalid if the host has none
	port       int
	handshakes []verdict.Handshake
	absent     bool // nothing listens there, and nothing has to
	spent      bool // not all handshakes were made, because the connections to the address are used up
}

// whyNot says why no connection was made.
func (e *endpoint) whyNot() string {
	if e.spent {
		return "the connections to " + e.address.String() + ", which other hosts have too, are used up (--connections)"
	}
	return "the time was up before its turn"
}

// place is what all endpoints at one address share.
type place struct {
	turn  chan struct{} // holds one token: there is one connection at a time
	hosts int           // so many hosts have the address
	used  int           // connections
}

// announce says that a host has its addresses, so that hosts with the same address share its connections.
func (s *survey) announce(h *host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, address := range h.addresses {
		if s.places[address] == nil {
			s.places[address] = &place{turn: s.Turns.of(address)}
		}
		s.places[address].hosts++
	}
}

// mostTime limits the look at one endpoint, for callers whose context has no end.
const mostTime = 5 * time.Minute

// look makes the handshakes with one endpoint, as many as are allowed.
func (s *survey) look(ctx context.Context, h *host, e *endpoint) {
	if !e.address.IsValid() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, mostTime)
	defer cancel()
	defer func() {
		if !e.absent {
			s.say(h.route.Host, "handshake", hostPort(e.address, e.port)+": "+counted(len(e.handshakes), "handshake"))
		}
	}()
	ours := s.ours(e.address)
	first := s.shake(ctx, e, ask{starttls.Any, sni(h.route.Host)}, ours)
	if first != nil && ours && passing(first.Err) && e.port == s.Port {
		if sleep(ctx, time.Second) { // a reload of Exim refuses connections for a moment
			e.handshakes = nil
			first = s.shake(ctx, e, ask{starttls.Any, sni(h.route.Host)}, ours)
		}
	}
	if first == nil || kindOf(first.Err) == starttls.KindConnectionRefused && e.port != s.Port {
		e.absent = first != nil
		return
	}
	if !goesOn(first.Err) {
		return
	}
	s.ascertain(ctx, e, first, ours, starttls.Everything, starttls.Everything12)
	<-h.bases
	for _, next := range plan(*first, h.route, ours || s.Full) {
		shaken := s.shake(ctx, e, next, ours)
		if shaken == nil || !goesOn(shaken.Err) {
			return
		}
		if refusesEverybody(first.Err) && kindOf(shaken.Err) == starttls.KindNotJudged {
			e.handshakes = e.handshakes[:len(e.handshakes)-1] // the same again, and not worth more connections
			continue
		}
		if first.Shown == nil {
			s.ascertain(ctx, e, shaken, ours, starttls.Everything, starttls.Everything12)
		} else { // Go can speak with the server, so the name in SNI is the likely reason
			s.ascertain(ctx, e, shaken, ours, starttls.Everything)
		}
	}
}

// ascertain finds out more about a server that refused all that Go can do with an alert: it may refuse everybody, or go on with other
// senders. It offers more, and corrects the handshake, which is the last of e.
func (s *survey) ascertain(ctx context.Context, e *endpoint, refused *verdict.Handshake, ours bool, more ...starttls.KeyType) {
	if !alerted(refused.Err) || refused.Ask != starttls.Any {
		return
	}
	var failed *starttls.Error
	last := len(e.handshakes) - 1
	for _, all := range more {
		shaken := s.shake(ctx, e, ask{all, refused.ServerName}, ours)
		if shaken == nil {
			return
		}
		why, ok := errors.AsType[*starttls.Error](shaken.Err)
		older := all == starttls.Everything12 && ok && why.Kind() == starttls.KindTLSVersion // it wants TLS 1.3, and has refused it
		switch {
		case older && failed != nil:
		case !ok || why.Kind() != starttls.KindValidationFailure:
			return
		default:
			failed = why
		}
	}
	refused.Err = failed
	e.handshakes = e.handshakes[:last+1]
	e.handshakes[last].Err = failed
}

// shake makes one handshake when it is the address's turn, and notes it. It returns nil if it was not made, or says nothing.
func (s *survey) shake(ctx context.Context, e *endpoint, a ask, ours bool) *verdict.Handshake {
	release, ok := s.enter(ctx, e, ours)
	if !ok {
		return nil
	}
	defer release()
	shaken := verdict.Handshake{ServerName: a.serverName, Ask: a.keyType}
	shaken.Shown, shaken.Err = starttls.Handshake(ctx, starttls.Request{
		Address: hostPort(e.address, e.port), ServerName: a.serverName, KeyType: a.keyType,
		BannerTimeout: s.BannerTimeout, StepTimeout: s.StepTimeout,
	})
	if len(e.handshakes) > 0 && (ctx.Err() != nil || !telling(shaken.Err)) {
		return nil
	}
	e.handshakes = append(e.handshakes, shaken)
	return &shaken
}

// enter waits for the turn to connect. It refuses if the context ends, or if the connections are used up: each host at the address may use
// its share, and one at least, as long as there are any.
func (s *survey) enter(ctx context.Context, e *endpoint, ours bool) (release func(), ok bool) {
	s.mu.Lock()
	p := s.places[e.address]
	s.mu.Unlock()
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, false
	}
	s.mu.Lock()
	share := s.Connections / p.hosts // hosts whose addresses come late still announce themselves
	s.mu.Unlock()
	if !ours && !s.Full && (p.used >= s.Connections || len(e.handshakes) > 0 && len(e.handshakes) >= share) {
		e.spent = true
		<-p.turn
		return nil, false
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		<-p.turn
		return nil, false
	}
	p.used++
	return func() { <-s.slots; <-p.turn }, true
}

// goesOn reports whether another handshake may show more after one with this error: TLS was reached. A server that refuses, hangs or does
// not offer TLS does so with every handshake.
func goesOn(err error) bool {
	if err == nil {
		return true
	}
	e, ok := errors.AsType[*starttls.Error](err)
	return ok && (e.Step == starttls.StepTLS || e.Step == starttls.StepEHLOAfterTLS) && e.Kind() != starttls.KindTimeout
}

// telling reports whether a handshake after the first says something about the server. If it was refused, or the network failed, the
// server may have had enough of this client.
func telling(err error) bool {
	if goesOn(err) {
		return true
	}
	return slices.Contains([]string{starttls.KindTLSUnavailable, starttls.KindSTARTTLSNotSupported, starttls.KindInjection}, kindOf(err))
}

// passing reports whether a server that is being reloaded may fail so.
func passing(err error) bool {
	return slices.Contains([]string{starttls.KindConnectionRefused, starttls.KindConnectionLost, starttls.KindTLSUnavailable}, kindOf(err))
}

func kindOf(err error) string {
	if e, ok := errors.AsType[*starttls.Error](err); ok {
		return e.Kind()
	}
	return ""
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
