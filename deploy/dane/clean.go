package dane

import (
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

// Limits of what is read. mxcert writes far less, but root reads what the service's user can write.
const (
	mostOwners = 500
	mostOurs   = 2000
	mostLeaked = 16
)

// Clean leaves out what mxcert does not write, and makes texts safe to print.
func (s *State) Clean() {
	maps.DeleteFunc(s.Memory, func(name string, h *History) bool { return h == nil || !plainName(name) })
	for i, name := range slices.Sorted(maps.Keys(s.Memory)) {
		if i >= mostOwners {
			delete(s.Memory, name)
			continue
		}
		s.Memory[name].clean()
	}
	known := []bundle.KeyType{bundle.EC256, bundle.EC384, bundle.RSA2048, bundle.RSA3072, bundle.RSA4096}
	maps.DeleteFunc(s.Keys, func(key bundle.KeyType, r *Roll) bool { return r == nil || !slices.Contains(known, key) })
	for _, r := range s.Keys {
		r.clean()
	}
	s.Ours, s.Former = cleanOurs(s.Ours, mostOurs), cleanOurs(s.Former, mostFormer)
	s.cleanFleet()
	if !slices.Contains([]Mode{Off, Check, ByHand, Publish}, s.Mode) {
		s.Mode = ""
	}
}

// Limits of what is remembered about a fleet.
const (
	mostPeers     = 2000
	mostSaid      = 200 // keys in one statement
	mostAddresses = 64
)

func cleanBefore(list []Before) []Before {
	list = slices.DeleteFunc(list, func(b Before) bool {
		return !plainName(b.Owner) || slices.ContainsFunc(b.Records, notARecord) || b.TTL < 0
	})
	return newestBefore(list)
}

func (s *State) cleanFleet() {
	s.Before = cleanBefore(s.Before)
	maps.DeleteFunc(s.Peers, func(name string, p *Peer) bool { return p == nil || !plainName(name) || p.Host != name })
	for i, name := range slices.Sorted(maps.Keys(s.Peers)) {
		if i >= mostPeers {
			delete(s.Peers, name)
			continue
		}
		s.Peers[name].Clean()
		s.Peers[name].Away = max(0, s.Peers[name].Away)
	}
	maps.DeleteFunc(s.Shared, func(_ bundle.KeyType, n SharedNext) bool { return plainKey(n.SPKI) == "" || n.Generation < 1 })
	if s.Said != nil {
		s.Said.Clean()
	}
}

// Clean leaves out what mxcert does not write.
func (s *Statement) Clean() {
	keys := func(list []string) []string {
		list = slices.DeleteFunc(list, func(spki string) bool { return plainKey(spki) == "" })
		return list[:min(len(list), mostSaid)]
	}
	s.Serves, s.Has = keys(s.Serves), keys(s.Has)
	s.Addresses = slices.DeleteFunc(s.Addresses, func(a string) bool { _, err := netip.ParseAddr(a); return err != nil })
	s.Addresses = s.Addresses[:min(len(s.Addresses), mostAddresses)]
	if !slices.Contains([]Mode{Off, Check, ByHand, Publish}, s.Mode) {
		s.Mode = ""
	}
}

func (h *History) clean() {
	h.Fault = finding.Quote(h.Fault, finding.MostQuoted)
	h.Known = h.Known[:min(len(h.Known), mostSets)]
	for i := range h.Known {
		h.Known[i].clean()
	}
	if h.Crowded != nil {
		h.Crowded.clean()
	}
	if !plainName(h.Final) {
		h.Final = ""
	}
	h.Away = max(0, h.Away)
}

func (c *Cached) clean() {
	c.Records = slices.DeleteFunc(c.Records, notARecord)
	c.By = c.By[:min(len(c.By), mostServers)]
	for i := range c.By {
		c.By[i] = finding.Quote(c.By[i], finding.MostQuoted)
	}
	c.TTL, c.Gone = max(0, c.TTL), max(0, c.Gone)
	if c.strange() {
		c.Guess = ""
	}
}

func (r *Roll) clean() {
	r.Next, r.Current = plainKey(r.Next), plainKey(r.Current)
	r.Retired = slices.DeleteFunc(r.Retired, func(old Retired) bool { return plainKey(old.SPKI) == "" })
	r.Retired = r.Retired[max(0, len(r.Retired)-mostRetired):]
	for i := range r.Retired {
		r.Retired[i].Gone = max(0, r.Retired[i].Gone)
	}
	if r.Asked != nil {
		r.Asked.Reason = finding.Quote(r.Asked.Reason, finding.MostQuoted)
		r.Asked.Leaked = slices.DeleteFunc(r.Asked.Leaked, func(spki string) bool { return plainKey(spki) == "" })
		r.Asked.Leaked = r.Asked.Leaked[max(0, len(r.Asked.Leaked)-mostLeaked):]
	}
}

// cleanOurs keeps the newest records.
func cleanOurs(list []Ours, most int) []Ours {
	list = slices.DeleteFunc(list, func(o Ours) bool {
		return !plainName(o.Owner) || !plainName(o.Zone) || o.For != "" && !plainName(o.For) || o.Primary != "" && !plainName(o.Primary) ||
			o.SPKI != "" && plainKey(o.SPKI) == "" || notARecord(o.Record)
	})
	return list[max(0, len(list)-most):]
}

// notARecord reports whether a text is not what [resolve.TLSA.String] writes.
func notARecord(text string) bool {
	r, err := resolve.ParseTLSA(text)
	return err != nil || r.String() != text
}

// plainKey returns a digest, or "" if it is none.
func plainKey(spki string) string {
	if b, err := hex.DecodeString(spki); err != nil || len(b) != 32 || strings.ToLower(spki) != spki {
		return ""
	}
	return spki
}

// plainName reports whether a text looks like a domain name.
func plainName(name string) bool {
	return name != "" && len(name) <= 255 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_*", r)
	})
}
