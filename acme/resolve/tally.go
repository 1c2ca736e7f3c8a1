package resolve

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// tally counts which servers of a zone serve the values. The polls change their own standing under its lock.
type tally struct {
	require Require

	mu      sync.Mutex
	polls   []*poll // of every address
	decided bool    // enough of them are current
}

// note records what a poll has found, and reports whether enough servers are current.
func (t *tally) note(p *poll, s standing, got found) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.standing, p.last, p.partial = s, got.text, got.partial
	t.decided = t.decided || t.enough()
	return t.decided
}

// enough reports whether as many servers are current as required.
//
// A quorum counts hosts, because the addresses of one host are one server: a host counts once, and serves the values if one of its
// addresses does. It does not count hosts to which this host has no way: no route, or a whole family that is silent.
func (t *tally) enough() bool {
	cut := t.cutOff()
	counted, serving := map[string]bool{}, map[string]bool{}
	waits := false
	for _, p := range t.polls {
		switch p.standing {
		case current:
			counted[p.server.Host], serving[p.server.Host] = true, true
		case outOfReach:
		default:
			waits = true
			if p.standing != silent || p.server.Family() != cut {
				counted[p.server.Host] = true
			}
		}
	}
	if t.require == Quorum {
		return len(serving) > len(counted)/2
	}
	return !waits && len(serving) > 0
}

// cutOff is [CutOff] for the addresses that are being asked.
func (t *tally) cutOff() string {
	addresses := make([]familiar, 0, len(t.polls))
	for _, p := range t.polls {
		if p.standing != outOfReach {
			addresses = append(addresses, familiar{p.server, p.standing == silent, p.standing == late || p.standing == current})
		}
	}
	return cutOff(addresses)
}

// familiar is an address that was asked, or is being asked.
type familiar struct {
	server           Server
	silent, answered bool // both are false before the first question has ended
}

func cutOff(addresses []familiar) string {
	all, quiet, speaking := map[string]int{}, map[string]int{}, map[string]int{}
	for _, a := range addresses {
		family := a.server.Family()
		all[family]++
		if a.silent {
			quiet[family]++
		}
		if a.answered {
			speaking[family]++
		}
	}
	for family, other := range map[string]string{"IPv6": "IPv4", "IPv4": "IPv6"} {
		if all[family] > 0 && quiet[family] == all[family] && speaking[other] > 0 {
			return family // the other one cannot be
		}
	}
	return ""
}

// CutOffText says that no address of a family answers.
func CutOffText(family string, servers []string) string {
	return fmt.Sprintf("no %s address answers (%s): does this host's %s work?", family, strings.Join(servers, ", "), family)
}

// CutOffHint says what to do about a family of addresses of which none answers.
func CutOffHint(family string, require Require) string {
	hint := fmt.Sprintf("see whether this host reaches others over %s (ping -%s)", family, strings.TrimPrefix(family, "IPv"))
	if require == All {
		hint += "; if it cannot, set dns.propagation.require: quorum, which counts each name server once"
	}
	return hint
}

// explain says which servers are behind when the time is up.
func (t *tally) explain(zone string, after time.Duration) *Error {
	e := &Error{Name: zone, Type: "TXT", Zone: zone, kind: behind, require: t.require, cutOff: t.cutOff(), partial: true}
	var lines, unheard []string
	answers := false
	for _, p := range t.polls {
		switch {
		case p.standing == current:
			e.partial = false // what replaces records leaves a value nowhere
		case p.standing == outOfReach:
		case p.standing == silent && p.server.Family() == e.cutOff:
			unheard = append(unheard, p.server.String())
		default:
			lines = append(lines, fmt.Sprintf("%s: %s", p.server, p.last))
			answers = answers || p.standing == late
			e.partial = e.partial && (p.partial || p.standing != late)
			e.stale = e.stale || p.server.Only == "parent" || p.server.Only == "glue"
		}
	}
	e.partial = e.partial && answers
	e.onlyCutOff = len(lines) == 0 && len(unheard) > 0
	slices.Sort(lines)
	slices.Sort(unheard)
	if len(unheard) > 0 {
		lines = append(lines, CutOffText(e.cutOff, unheard))
	}
	if len(lines) == 0 {
		lines = []string{"this host cannot reach any of its servers"}
	}
	e.Reason = fmt.Sprintf("after %s: %s", after.Round(time.Second), strings.Join(lines, "; "))
	return e
}
