package page

import (
	"cmp"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/fleet"
	"mxcert/cmd/mxcert/internal/tell"
)

// Fleet is the fleet of this host.
type Fleet struct {
	Name, Host string
	Up         bool      // its store can be used
	Since      time.Time // that it is so; zero if it is not known
	Reason     string    // why it cannot be used
	Hint       string    // what to do about that
	Hosts      []FleetHost
}

// FleetHost is a host with how many of the certificates that it wants it serves.
type FleetHost struct {
	Host       string
	Alive      bool
	Seen       time.Time
	Serves, Of int
}

// fleetOf takes out of a world what is known about the fleet; nil if this host is in none.
func fleetOf(w tell.World) *Fleet {
	if w.Fleet == nil {
		return nil
	}
	f := &Fleet{Name: w.Fleet.Name, Host: w.Fleet.Host, Up: w.Fleet.Health.Up, Since: w.Fleet.Health.Since, Reason: w.Fleet.Health.Reason, Hint: w.Fleet.Health.Hint}
	hosts := map[string]FleetHost{}
	var names []string
	for _, c := range w.Host.Certificates {
		names = append(names, c.Name)
	}
	for _, list := range w.Fleet.Hosts(names) {
		newest := fleet.NewestOf(list)
		for _, d := range list {
			h := hosts[d.Host]
			h.Host, h.Alive = d.Host, h.Alive || d.Alive
			if d.Seen.After(h.Seen) {
				h.Seen = d.Seen
			}
			if len(d.Wish.Keys) > 0 {
				h.Of++
				if !slices.ContainsFunc(d.Wish.Keys, func(key bundle.KeyType) bool { return !d.Serves(key, newest[key].Serial) }) {
					h.Serves++
				}
			}
			hosts[d.Host] = h
		}
	}
	for _, h := range hosts {
		f.Hosts = append(f.Hosts, h)
	}
	slices.SortFunc(f.Hosts, func(a, b FleetHost) int { // those that are behind first
		return cmp.Or(cmp.Compare(a.Serves-a.Of, b.Serves-b.Of), cmp.Compare(a.Host, b.Host))
	})
	return f
}

// mostFleet limits the hosts that a page lists.
const mostFleet = 200

// fleetSection says how the store is, and which host serves what.
func fleetSection(f *Fleet) *element {
	if f == nil {
		return nil
	}
	lead := parts{say("This host is %s in the fleet %s. ", finding.Quote(f.Host, 200), finding.Quote(f.Name, 64))}
	switch {
	case f.Since.IsZero():
		lead = append(lead, text("Its store was not asked yet."))
	case f.Up:
		lead = append(lead, text("Its store answers since "), moment(f.Since), text("."))
	default:
		lead = append(lead, text("Its store cannot be used since "), moment(f.Since), text(": mail is served as before, and orders wait."))
		if f.Reason != "" {
			lead = append(lead, text(" The reason: "), foreign(f.Reason), text("."))
		}
		if f.Hint != "" {
			lead = append(lead, text(" Next step: "), foreign(f.Hint), text("."))
		}
	}
	list := parts{el("p", lead...)}
	if len(f.Hosts) > 0 {
		body := parts{}
		for _, h := range f.Hosts[:min(len(f.Hosts), mostFleet)] {
			body = append(body, fleetRow(h, f.Up))
		}
		list = append(list, el("div", class("sheet"), el("table", el("caption", say("%d of %d hosts, those that are behind first.", min(len(f.Hosts), mostFleet), len(f.Hosts))),
			el("thead", el("tr", head("Host"), head("State"), head("Certificates"))), el("tbody", body...))))
	}
	return section("fleet", "Fleet", list...)
}

// fleetRow is about one host. Only a store that answers knows who is away.
func fleetRow(h FleetHost, answers bool) *element {
	state := parts{text("at work")}
	switch {
	case h.Alive:
	case h.Seen.IsZero():
		state = parts{text(map[bool]string{true: "away", false: "not seen yet"}[answers])}
	default:
		state = parts{text(map[bool]string{true: "away since ", false: "last seen "}[answers]), moment(h.Seen)}
	}
	m := mark{"good", "✓", "newest"}
	if h.Serves < h.Of {
		m = mark{"warn", "!", "behind"}
	}
	return el("tr", el("th", append(parts{is("scope", "row")}, hostName(h.Host)...)...), el("td", state...), el("td", m.show(), say(" %d of %d", h.Serves, h.Of)))
}
