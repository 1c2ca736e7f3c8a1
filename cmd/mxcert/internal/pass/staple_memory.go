package pass

import (
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/issued"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/ocsp"
)

// staples is what is remembered about the OCSP responses of a lineage's certificates.
type staples struct {
	Version int         `json:"version"`
	List    []staple    `json:"staples"`
	Heals   state.Heals `json:"heals,omitzero"` // when mxcert has repaired files with responses; see staple_repair.go
}

// staple is what is remembered about the response of one certificate.
type staple struct {
	Serial   string        `json:"serial"`
	Response []byte        `json:"response,omitempty"` // the last one that says good, DER
	Status   ocsp.Status   `json:"status,omitempty"`   // of the last answer; "" before the first
	NextTry  time.Time     `json:"next_try,omitzero"`  // when mxcert asks again
	Failures int           `json:"failures,omitempty"` // requests in a row without a response that says good
	Problem  *report.Error `json:"problem,omitempty"`  // of the last request; nil if it brought a response that says good
	Placed   string        `json:"placed,omitempty"`   // what a pass has found or put in place, see printOf; "" if that is not known
}

// mostStaples limits what is remembered: the current certificates, and those to which a deployment may go back.
const mostStaples = 8

// readStaples reads what is remembered. Nothing is lost if it cannot be read: mxcert asks again.
func readStaples(lineage *state.Lineage) *staples {
	s := &staples{}
	if lineage.Staples(s) != nil {
		s = &staples{}
	}
	for i := range s.List {
		if problem := s.List[i].Problem; problem != nil { // root reads what the service's user can write
			problem.Kind, problem.Message, problem.Hint = finding.Quote(problem.Kind, 60), finding.QuoteLink(problem.Message, finding.MostQuoted), finding.QuoteLink(problem.Hint, finding.MostQuoted)
		}
	}
	s.Version = state.Version
	return s
}

// of returns what is remembered about a certificate. A new one goes to the end of the list.
func (s *staples) of(b *bundle.Bundle) *staple {
	serial := b.Serial()
	i := slices.IndexFunc(s.List, func(one staple) bool { return one.Serial == serial })
	if i < 0 {
		s.List = append(s.List, staple{Serial: serial})
		s.List = s.List[max(0, len(s.List)-mostStaples):]
		i = len(s.List) - 1
	}
	return &s.List[i]
}

// response returns the response of a certificate, checked; nil if there is none that says good. It may have expired.
func (s *staples) response(b *bundle.Bundle) *ocsp.Response {
	issuer, err := ocsp.Issuer(b)
	if err != nil {
		return nil
	}
	r, err := ocsp.Parse(s.of(b).Response, b.Leaf(), issuer, time.Now())
	if err != nil || r.Status != ocsp.Good {
		return nil
	}
	return r
}

// forServers returns the responses that servers may send, and those that keep accepts although they expire soon, or have expired.
func (s *staples) forServers(bundles []*bundle.Bundle, keep func(one *staple) bool) wanted.Staples {
	list := wanted.Staples{}
	for _, b := range bundles {
		if b == nil {
			continue
		}
		if r := s.response(b); r != nil && (time.Now().Before(r.ServeUntil()) || keep(s.of(b))) {
			list[b.Serial()] = r.DER
		}
	}
	return list
}

// next returns when the first response of the bundles is to be fetched, or taken away; zero if there is nothing to do.
func (s *staples) next(bundles []*bundle.Bundle) (next time.Time) {
	if s == nil {
		return next
	}
	for _, b := range bundles {
		if b == nil {
			continue
		}
		times := []time.Time{s.of(b).NextTry}
		if r := s.response(b); r != nil && time.Now().Before(r.ServeUntil()) {
			times = append(times, r.ServeUntil())
		}
		for _, at := range times {
			if !at.IsZero() && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	return next
}

const (
	// firstPause is how long mxcert waits before it asks a responder again that gave no good answer. The pause doubles each time.
	firstPause = 30 * time.Second
	// longestPause is the longest of these pauses.
	longestPause = time.Hour
	// part is the part of what is left of a response's life that no pause exceeds.
	part = 4
)

// refreshAt returns when a response is to be fetched again: when half of its life is over, or up to a tenth of that later, so that hosts do not
// all come at once. If the responder gives no newer one then, mxcert asks again after a quarter of what is left.
func refreshAt(r *ocsp.Response, now time.Time) time.Time {
	life := r.NextUpdate.Sub(r.ThisUpdate)
	if at := r.ThisUpdate.Add(schedule.Spread(life / 2)); at.After(now) {
		return at
	}
	return now.Add(schedule.Spread(max(r.NextUpdate.Sub(now)/part, life/16)))
}

// tryAgainAt returns when to ask a responder again after so many failures. have is the response that is still in use; nil if there is none.
func tryAgainAt(failures int, have *ocsp.Response, now time.Time) time.Time {
	pause := min(firstPause<<min(max(failures, 1)-1, 10), longestPause)
	if have != nil && !have.Expired(now) {
		pause = min(pause, max(have.NextUpdate.Sub(now)/part, have.NextUpdate.Sub(have.ThisUpdate)/16))
	}
	return now.Add(schedule.Spread(pause))
}

// stapleReport describes the OCSP response of a certificate; nil if servers get none from mxcert.
func stapleReport(want wanted.Certificate, s *staples, b *bundle.Bundle) *report.OCSP {
	if !want.Stapled() {
		return nil
	}
	one, r := s.of(b), s.response(b)
	told := &report.OCSP{Status: string(one.Status)}
	if one.Status == "" {
		told.Status = "none"
	}
	if r != nil {
		told.ThisUpdate, told.NextUpdate = &r.ThisUpdate, &r.NextUpdate
	}
	if !one.NextTry.IsZero() {
		at := one.NextTry.UTC()
		told.NextRequest = &at
	}
	if one.Problem != nil {
		told.Error, told.Kind, told.Hint = one.Problem.Message, one.Problem.Kind, one.Problem.Hint
	}
	return told
}

// withStaples adds the OCSP responses that are remembered. Status does not ask Exim how it reads one that has ended: if the last pass has left it
// in place, it counts as right.
func withStaples(want wanted.Certificate, have *issued.Lineage) wanted.Certificate {
	if !want.Stapled() {
		return want
	}
	return want.WithStaples(readStaples(have.Lineage).forServers(have.Bundles, func(one *staple) bool { return one.Placed == printOf(one.Response) }))
}
