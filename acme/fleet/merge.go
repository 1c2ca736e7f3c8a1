package fleet

import (
	"context"
	"slices"
	"strings"
)

// Merged is what the hosts of a fleet want together of a certificate.
type Merged struct {
	Wish
	By map[string][]string // which hosts want a name, for names that this host does not want itself
}

// Merge returns what the hosts want together, with this host's own wish first. With a store that is away, it is what was last known. It makes
// known what this host wants.
func (m *Member) Merge(ctx context.Context, name string, own Wish) Merged {
	merged := Merged{Wish: Wish{Names: slices.Clone(own.Names), Optional: slices.Clone(own.Optional), Keys: slices.Clone(own.Keys)}, By: map[string][]string{}}
	if m == nil {
		return merged
	}
	m.wish(name, own)
	hosts, _ := m.Hosts(ctx, name) // what was last known, if the store is away
	for _, required := range []bool{true, false} {
		for _, h := range hosts {
			if h.Host == m.set.Host {
				continue
			}
			list, into := h.Wish.Optional, &merged.Optional
			if required {
				list, into = h.Wish.Names, &merged.Names
			}
			for _, wanted := range list {
				merged.add(wanted, h.Host, own, into)
			}
		}
	}
	return merged
}

func (m *Merged) add(name, host string, own Wish, into *[]string) {
	if slices.Contains(own.Names, name) || slices.Contains(own.Optional, name) || !isName(name) {
		return
	}
	if by := m.By[name]; !slices.Contains(by, host) {
		m.By[name] = append(by, host)
	}
	if !slices.Contains(m.Names, name) && !slices.Contains(m.Optional, name) && len(m.Names)+len(m.Optional) < mostNames {
		*into = append(*into, name)
	}
}

// isName reports whether a certificate can have a name: a host name in lower case, or a wildcard.
func isName(name string) bool {
	host := strings.TrimPrefix(name, "*.")
	return host != "" && len(name) <= 253 && strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}
