package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/acme/state"

	"mxcert/cmd/mxcert/internal/report"
)

const fleetStatusHelp = `Asks the store of the fleet, and shows which host has which certificate on its disk, and what handshakes with its endpoints have shown.
It changes nothing. If the store is away, or this host cannot use its identity, it shows what this host knows from its disk, and says since when.
If systemd hands the secrets of this host to the service alone, this command is refused (78), and the next step is one that has them.

Exit codes: 0 every host serves the newest certificate of each kind that it wants, 3 one does not, or the store holds something that this host
refuses, 75 the store is away.`

func (a *app) fleetStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Each host and certificate: wanted, on disk, served, and how old this is", Args: cobra.NoArgs,
		Long:    fleetStatusHelp,
		Example: "  mxcert fleet status\n  mxcert fleet status --json | jq '.certificates[].hosts[] | select(.matches | not)'",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.fleetStatus(cmd.Context()) },
	}
}

// fleetReport is the document of `fleet status --json`.
type fleetReport struct {
	OK           bool               `json:"ok"`
	Fleet        string             `json:"fleet"`
	Host         string             `json:"host"` // this one
	Engine       report.FleetEngine `json:"engine"`
	Faults       []string           `json:"faults"`
	Hosts        []fleetHost        `json:"hosts"`
	Certificates []fleetCertificate `json:"certificates"`
	Recipients   []fleetRecipient   `json:"recipients"`
}

type fleetHost struct {
	Host      string     `json:"host"`
	Alive     bool       `json:"alive"`
	Seen      *time.Time `json:"seen"`
	Version   string     `json:"version"`
	Recipient string     `json:"recipient"`
}

// fleetCertificate is the newest certificate of one type of key, and how far each host is with it.
type fleetCertificate struct {
	Name       string      `json:"name"`
	Key        string      `json:"key"`
	Generation int64       `json:"generation"`
	Serial     string      `json:"serial"`
	NotAfter   *time.Time  `json:"not_after"`
	Host       string      `json:"host"` // that ordered it
	Hosts      []fleetCopy `json:"hosts"`
}

// fleetCopy is what a host says about a certificate.
type fleetCopy struct {
	Host    string `json:"host"`
	Wanted  bool   `json:"wanted"`
	OnDisk  string `json:"on_disk"` // serial; "" if it has none
	Served  string `json:"served"`  // serial that handshakes have shown; "" if none has
	Matches bool   `json:"matches"` // it serves the newest one, or has it on disk and nothing to serve it at
	Age     int64  `json:"age_seconds"`
	Reason  string `json:"reason"` // why it does not match, or does not count
}

type fleetRecipient struct {
	Recipient string `json:"recipient"`
	Host      string `json:"host"`
	State     string `json:"state"`  // trusted, removed or unknown
	Source    string `json:"source"` // this host, configured, added or removed
}

func (a *app) fleetStatus(ctx context.Context) error {
	ctx, cancel := a.within(ctx, fleetTime)
	defer cancel()
	f, err := a.fleet(ctx, "fleet status", toShow)
	if err != nil {
		return err
	}
	defer func() { _ = f.leave() }()
	seen, err := f.survey(ctx)
	if err != nil && !isAway(err) {
		return fleetFailed(err)
	}
	r := newFleetReport(f.host.Fleet.Name, f.host.Fleet.Host, seen, f.Health(), err, time.Now())
	return a.finish(answer{document: r, code: r.code(), print: func(out sheet) { printFleet(out, r, time.Now()) }})
}

// fleetSeen is what a store says, or what was last known of it.
type fleetSeen struct {
	fleet.Overview
	deployed map[string][]fleet.Deployed // by certificate
}

// isAway reports whether an error of the store means that it cannot be used: it is away, or does not let this host in.
func isAway(err error) bool { return errors.Is(err, state.ErrAway) || errors.Is(err, fs.ErrPermission) }

// survey asks for everything. With a store that cannot be used there is an error, see [isAway], and the rest is what was last known.
func (f *fleetSight) survey(ctx context.Context) (fleetSeen, error) {
	overview, err := f.Overview(ctx)
	if err != nil && !isAway(err) {
		return fleetSeen{}, err
	}
	seen := fleetSeen{Overview: overview, deployed: map[string][]fleet.Deployed{}}
	var names []string
	for _, c := range overview.Certificates {
		names = append(names, c.Name)
	}
	for _, c := range f.host.Certificates {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		list, askErr := f.Hosts(ctx, name)
		if askErr != nil && !isAway(askErr) {
			return seen, askErr
		}
		if seen.deployed[name] = list; err == nil {
			err = askErr
		}
	}
	return seen, err
}

// newFleetReport puts together what a store says. away is why it could not be asked; nil if it could.
func newFleetReport(name, host string, seen fleetSeen, health fleet.Health, away error, now time.Time) *fleetReport {
	r := &fleetReport{Fleet: name, Host: host, Engine: fleetEngine(health, away, now), Faults: slices.Clone(health.Faults), Hosts: []fleetHost{},
		Certificates: []fleetCertificate{}, Recipients: []fleetRecipient{}}
	if r.Faults == nil {
		r.Faults = []string{}
	}
	for _, h := range seen.Hosts {
		r.Hosts = append(r.Hosts, fleetHost{Host: h.Host, Alive: h.Alive, Seen: instant(lastSeen(h, seen)), Version: h.Version, Recipient: h.Recipient})
	}
	for _, t := range seen.Recipients {
		r.Recipients = append(r.Recipients, fleetRecipient{Recipient: t.Recipient, Host: t.Host, State: t.State, Source: t.Source})
	}
	for _, newest := range newestOf(seen) {
		r.Certificates = append(r.Certificates, newFleetCertificate(newest, seen, away == nil, now))
	}
	r.OK = r.code() == report.CodeOK
	return r
}

// fleetEngine is how the store is: as this command found it, and since when.
func fleetEngine(h fleet.Health, away error, now time.Time) report.FleetEngine {
	e := report.FleetEngine{Up: away == nil, Since: instant(h.Since)}
	if away == nil {
		return e
	}
	e.Reason, e.Hint = cmp.Or(h.Reason, report.OneLine(away.Error())), cmp.Or(report.HintOf(away), h.Hint)
	if h.Up || e.Since == nil {
		e.Since = instant(now)
	}
	return e
}

// instant returns a time for a document; nil for none.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC().Truncate(time.Second))
}

// newestOf lists the newest certificate of each name and type of key: as the store has it, otherwise the newest that a host has.
func newestOf(seen fleetSeen) []fleet.Newest {
	list := slices.Clone(seen.Certificates)
	add := func(name string, key bundle.KeyType, d fleet.Deployment) {
		i := slices.IndexFunc(list, func(n fleet.Newest) bool { return n.Name == name && n.Key == string(key) })
		if i < 0 {
			list = append(list, fleet.Newest{Name: name, Key: string(key), Generation: d.Generation, Serial: d.Serial, NotAfter: d.NotAfter})
		}
	}
	for name, hosts := range seen.deployed {
		for key, d := range fleet.NewestOf(hosts) {
			add(name, key, d)
		}
		for _, h := range hosts {
			for _, key := range h.Wish.Keys {
				add(name, key, fleet.Deployment{})
			}
		}
	}
	slices.SortFunc(list, func(a, b fleet.Newest) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key)) })
	return list
}

// newFleetCertificate puts together what hosts say of a certificate. answers: the store says who is at work.
func newFleetCertificate(newest fleet.Newest, seen fleetSeen, answers bool, now time.Time) fleetCertificate {
	c := fleetCertificate{Name: newest.Name, Key: newest.Key, Generation: newest.Generation, Serial: newest.Serial, NotAfter: instant(newest.NotAfter), Host: newest.Host, Hosts: []fleetCopy{}}
	for _, d := range seen.deployed[newest.Name] {
		wanted := d.Wants(bundle.KeyType(newest.Key))
		if has := d.Keys[newest.Key]; wanted || has.Serial != "" || has.Served != "" {
			c.Hosts = append(c.Hosts, newFleetCopy(d, has, newest, wanted, answers, now))
		}
	}
	slices.SortFunc(c.Hosts, func(a, b fleetCopy) int { return cmp.Compare(a.Host, b.Host) })
	return c
}

func newFleetCopy(d fleet.Deployed, has fleet.Deployment, newest fleet.Newest, wanted, answers bool, now time.Time) fleetCopy {
	c := fleetCopy{Host: d.Host, Wanted: wanted, OnDisk: has.Serial, Served: has.Served}
	at := d.At
	if has.Served != "" && !has.At.IsZero() {
		at = has.At
	}
	if !at.IsZero() {
		c.Age = max(0, int64(now.Sub(at)/time.Second))
	}
	c.Matches = d.Serves(bundle.KeyType(newest.Key), newest.Serial)
	switch {
	case !wanted:
		c.Reason = "it does not want this type of key"
	case newest.Serial == "":
		c.Reason = "no host has ordered it yet"
	case c.Matches:
	case has.Serial == "":
		c.Reason = "it has none yet"
	case has.Serial != newest.Serial:
		c.Reason = fmt.Sprintf("it has generation %d on its disk", has.Generation)
	case has.Served == "":
		c.Reason = "no handshake has shown it yet"
	default:
		c.Reason = "its endpoints show another one"
	}
	if d.Problem != "" && !c.Matches {
		c.Reason += ": " + d.Problem
	}
	if !d.Alive {
		c.Reason = joinClauses(c.Reason, awayClause(d.Seen, answers))
	}
	return c
}

// awayClause says that a host is away. Only a store that answers knows; without it, all that is known is when the host was last seen.
func awayClause(seen time.Time, answers bool) string {
	switch {
	case !answers && seen.IsZero():
		return "the host was not seen yet"
	case !answers:
		return "the host was last seen at " + report.Minute(seen)
	case seen.IsZero():
		return "the host is away"
	}
	return "the host is away since " + report.Minute(seen)
}

// lastSeen is when a host was last seen: by itself, or with what it says of a certificate.
func lastSeen(h fleet.HostInfo, seen fleetSeen) time.Time {
	last := h.Seen
	for _, list := range seen.deployed {
		for _, d := range list {
			if d.Host == h.Host && d.Seen.After(last) {
				last = d.Seen
			}
		}
	}
	return last
}

func joinClauses(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// code is the exit code of a report.
func (r *fleetReport) code() report.Code {
	switch {
	case !r.Engine.Up:
		return report.CodeTemporary
	case len(r.Faults) > 0:
		return report.CodeFault
	}
	for _, c := range r.Certificates {
		if slices.ContainsFunc(c.Hosts, func(h fleetCopy) bool { return h.Wanted && !h.Matches }) {
			return report.CodeFault
		}
	}
	return report.CodeOK
}
