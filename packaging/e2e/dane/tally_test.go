package dane

import (
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/world"
)

// tally is what became of deliveries of one sender.
type tally struct {
	sent, deferred int
	refused        int            // of those that were deferred: because the server showed a key that no record names
	to             map[string]int // of those that were deferred, by domain
	lines          []string       // of deliveries that were deferred
}

// refusal is what Postfix, Exim and posttls-finger say of such a key. Whoever cannot look up the records says something else.
var refusal = regexp.MustCompile(`ertificate not (verified|trusted)|ertificate verification failed|Untrusted TLS connection|ertificate invalid|DANE attempt failed`)

func (t *tally) add(ok bool, domain, line string) {
	if ok {
		t.sent++
		return
	}
	if t.to == nil {
		t.to = map[string]int{}
	}
	t.to[domain]++
	t.deferred++
	if refusal.MatchString(line) {
		t.refused++
	}
	if len(t.lines) < 20 {
		t.lines = append(t.lines, strings.TrimSpace(line))
	}
}

var (
	postfixStatus = regexp.MustCompile(`(?m)^.* to=<n\d+@([^>]*)>.* status=(\w+).*$`)
	eximStatus    = regexp.MustCompile(`(?m)^.* (=>|->|==|\*\*) a@([^\s:]+)[: ].*$`)
)

// end stops the senders, lets Postfix finish, and counts.
func (s *senders) end() map[string]*tally {
	t := s.town.t
	t.Helper()
	time.Sleep(3 * time.Second) // what was sent last arrives
	s.stop()
	s.wait.Wait()
	if s.err != nil {
		t.Error(s.err)
	}
	return s.tallies()
}

// tallies count what the senders have done so far. What was sent without DANE counts as deferred: it must not have been sent.
func (s *senders) tallies() map[string]*tally {
	s.town.t.Helper()
	s.mu.Lock()
	finger := s.finger
	finger.to = maps.Clone(finger.to)
	s.mu.Unlock()
	all := map[string]*tally{"Postfix": {}, "Exim": {}, "posttls-finger": &finger}
	log, err := s.town.Sender.Read("/var/log/postfix.log")
	s.town.check(err)
	for _, m := range postfixStatus.FindAllStringSubmatch(log, -1) {
		all["Postfix"].add(m[2] == "sent", m[1], m[0])
	}
	for _, name := range []string{"quick", "slow"} {
		log, err := s.town.Sender.In(world.Exim).Read("/var/log/exim4/" + name + "-mainlog")
		if err != nil {
			continue // nobody had it send
		}
		for _, m := range eximStatus.FindAllStringSubmatch(log, -1) {
			all["Exim"].add((m[1] == "=>" || m[1] == "->") && strings.Contains(m[0], "CV=dane"), m[2], m[0])
		}
	}
	return all
}

// A key that was refused is told from records that could not be looked up.
func TestRefusals(t *testing.T) {
	for line, want := range map[string]bool{
		"to=<n1@nsec.test>, relay=mx.nsec.test[198.51.100.101]:25, status=deferred (Server certificate not verified)":                                              true,
		"== a@nsec.test R=mx T=smtp defer (-37) H=mx.nsec.test [198.51.100.101]: TLS session: (certificate verification failed): certificate invalid":              true,
		"nsec.test: posttls-finger: Untrusted TLS connection established to mx.nsec.test[198.51.100.101]:25":                                                       true,
		"to=<n1@nsec.test>, relay=none, status=deferred (TLSA lookup error for mx.nsec.test:25)":                                                                   false,
		"to=<n1@nsec.test>, relay=none, status=deferred (Host or domain name not found. Name service error for name=nsec.test type=MX: Host not found, try again)": false,
		"== a@nsec.test R=mx T=smtp defer (-36) H=mx.nsec.test [198.51.100.101]: DANE error: tlsa lookup DEFER":                                                    false,
	} {
		var c tally
		if c.add(false, "nsec.test", line); (c.refused == 1) != want || c.deferred != 1 {
			t.Errorf("%s: refused: %d", line, c.refused)
		}
	}
}
