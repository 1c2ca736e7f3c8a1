package page

import (
	"slices"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
)

// Limits of the tables of times.
const (
	mostComing = 15
	mostEvents = 30
)

// date is something that happens, or is planned, at a time.
type date struct {
	kind string // expiry, renewal, tlsa, name or try
	name string // of the certificate
	key  string // its type; "" if the date is about all
	at   time.Time
	what string
}

// datesOf lists what is planned about a certificate.
func datesOf(r report.Certificate) (list []date) {
	for _, k := range r.Keys {
		list = append(list, date{"expiry", r.Name, k.Key, k.NotAfter, "The " + k.Key + " certificate expires"})
	}
	if r.NextRenewal != nil {
		list = append(list, date{"renewal", r.Name, "", *r.NextRenewal, "mxcert renews it"})
	}
	if r.NextTry != nil {
		list = append(list, date{"try", r.Name, "", *r.NextTry, "mxcert tries again what has failed"})
	}
	if t := r.TLSA; t != nil {
		for _, k := range t.Keys {
			if k.Until != nil {
				list = append(list, date{"tlsa", r.Name, k.Key, *k.Until, "TLSA, " + k.Key + ": " + k.WaitingFor})
			}
		}
		if t.SignedUntil != nil {
			list = append(list, date{"signature", r.Name, "", *t.SignedUntil, "The first DNSSEC signature on the TLSA records expires"})
		}
	}
	for _, l := range r.LeftOut {
		list = append(list, date{"name", r.Name, "", l.NextTry, "mxcert tries to prove " + l.Name + " again"})
	}
	for _, a := range r.Awaited {
		list = append(list, date{"name", r.Name, "", a.Until, "A look at DNS decides about " + a.Name})
	}
	return list
}

// comingOf lists the next dates.
func comingOf(s Sight) *element {
	var all []date
	for _, c := range s.Certificates {
		for _, d := range datesOf(c.Report) {
			if d.at.After(s.At) {
				all = append(all, d)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b date) int { return a.at.Compare(b.at) })
	var body parts
	for _, d := range all[:min(len(all), mostComing)] {
		body = append(body, el("tr", el("th", is("scope", "row"), moment(d.at)), el("td", text(finding.Quote(d.name, 100))), el("td", foreign(d.what))))
	}
	if len(body) == 0 {
		return nil
	}
	return section("coming", "What comes next", times("The next dates, the nearest first.", body))
}

// historyOf lists what happened last.
func historyOf(s Sight) *element {
	type happened struct {
		state.Event
		name string
	}
	var all []happened
	for _, c := range s.Certificates {
		for _, e := range c.Events {
			all = append(all, happened{e, c.Report.Name})
		}
	}
	slices.SortStableFunc(all, func(a, b happened) int { return b.At.Compare(a.At) })
	var body parts
	for _, e := range all[:min(len(all), mostEvents)] {
		what := parts{el("b", text(finding.Quote(e.Event.Event, 40))), say(" %s ", finding.Quote(string(e.Key), 20))}
		if e.Serial != "" {
			what = append(what, el("span", class("serial"), text(finding.Quote(e.Serial, 64))), text(" "))
		}
		body = append(body, el("tr", el("th", is("scope", "row"), moment(e.At)), el("td", text(finding.Quote(e.name, 100))), el("td", append(what, foreign(e.Message))...)))
	}
	if len(body) == 0 {
		return nil
	}
	return section("history", "What happened last", times("Orders, deployments and faults, the newest first. mxcert history shows more.", body))
}

// times is a table of times.
func times(caption string, body parts) *element {
	return el("div", class("sheet"), el("table", class("times"), el("caption", text(caption)),
		el("colgroup", el("col", class("when")), el("col", class("who")), el("col")),
		el("thead", el("tr", head("When"), head("Certificate"), head("What"))), el("tbody", body...)))
}
