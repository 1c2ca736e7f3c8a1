package dane

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"strings"
	"time"
)

// A recording is what servers gave and what was served, for the checker.
type recording struct {
	sights []sight
	shakes []shake
}

// A sight is a record set that one server gave at one name for some time without a break.
type sight struct {
	server, owner string
	cache         bool // the server is a resolver
	given
	first, last time.Time // the first answer was there at first; the last question was sent at last
	count       int
}

// A shake is one handshake.
type shake struct {
	address     string
	owners      []string // whose records senders look at when they connect to it
	kind        string   // which certificate was asked for: ec256 or rsa2048
	begin, end  time.Time
	leaf, chain [][]byte // certificates and keys as they are: DER of leaf and its key, and of the others
	failed      string
}

// spki is the SHA-256 digest of the served key.
func (s shake) spki() string {
	if len(s.leaf) != 2 {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(s.leaf[1]))
}

// broken is a moment at which a sender with a cache may have been refused.
type broken struct {
	at      time.Time
	address string // with a port, of the mail host
	reason  string
}

// mostBroken is how many moments of one address are reported.
const mostBroken = 5

// check looks for moments at which the served key did not fit a set that somebody may have held: each set that an authoritative server gave
// with signatures is held for twice its TTL after the last time that it was seen, and at least as long as the caches of its name's senders hold
// everything. What a resolver gave it holds for the TTL that it gave last.
//
// It is a simple model of its own, and uses nothing of the product. It never says that something is broken when it is not sure: a set counts
// from its first answer on, and to the last question that it answered.
func (r recording) check(least map[string]time.Duration) (all []broken) {
	found := map[string]int{}
	for _, h := range r.shakes {
		for _, owner := range h.owners {
			for _, s := range r.sights {
				if s.owner != owner || s.set == "" || !s.signed {
					continue
				}
				until := s.last.Add(s.ttl)
				if !s.cache {
					until = s.last.Add(max(2*s.ttl, least[owner]))
				}
				if h.begin.Before(s.first) || h.end.After(until) {
					continue
				}
				if n := found[h.address]; n >= mostBroken {
					continue
				}
				if h.failed != "" {
					found[h.address]++
					all = append(all, broken{h.begin, h.address, fmt.Sprintf("%s: no handshake at %s: %s", owner, h.address, h.failed)})
				} else if !fits(s.set, h) {
					found[h.address]++
					all = append(all, broken{h.begin, h.address, fmt.Sprintf("%s (%s): the key %s is served, but from %s until %s somebody may hold %q, which %s gave",
						h.address, h.kind, h.spki(), clock(s.first), clock(until), s.set, s.server)})
				}
			}
		}
	}
	return all
}

// fits reports whether some record of a set fits a handshake. A set without a record that senders use (RFC 7672 section 3.1) fits all.
func fits(set string, h shake) bool {
	usable := false
	for record := range strings.SplitSeq(set, "; ") {
		var usage, selector, matching int
		var data string
		if _, err := fmt.Sscan(record, &usage, &selector, &matching, &data); err != nil || usage < 2 || usage > 3 || selector > 1 || matching > 2 {
			continue
		}
		usable = true
		candidates := h.leaf
		if usage == 2 {
			candidates = h.chain
		}
		for i, der := range candidates {
			digest := fmt.Sprintf("%x", der)
			switch matching {
			case 1:
				digest = fmt.Sprintf("%x", sha256.Sum256(der))
			case 2:
				digest = fmt.Sprintf("%x", sha512.Sum512(der))
			}
			if i%2 == selector && digest == data {
				return true
			}
		}
	}
	return !usable
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }
