package page

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
)

// HTML writes a page.
func HTML(w io.Writer, s Sight) error {
	sorted := slices.Clone(s.Certificates)
	slices.SortStableFunc(sorted, func(a, b Certificate) int { return cmp.Compare(rank(a), rank(b)) })
	h := headlineOf(s)
	room := mostBytes - len(style)
	keep := func(e *element) *element {
		e, size := flat(e)
		room -= size
		return e
	}
	above := parts{keep(alarmsOf(s.Alarms)), keep(overviewOf(sorted, s)), keep(comingOf(s)), keep(fleetSection(s.Fleet))}
	history := keep(historyOf(s))
	return write(w, el("html", is("lang", "en"),
		el("head",
			el("meta", is("charset", "utf-8")),
			el("meta", is("http-equiv", "Content-Security-Policy"), is("content", policy)),
			el("meta", is("name", "viewport"), is("content", "width=device-width, initial-scale=1")),
			el("meta", is("name", "color-scheme"), is("content", "light dark")),
			el("meta", is("name", "referrer"), is("content", "no-referrer")),
			el("meta", is("name", "robots"), is("content", "noindex")),
			el("title", say("%s: %s – mxcert", finding.Quote(s.Host, 255), h.word)),
			raw("style", style)),
		el("body", headerOf(s, h),
			el("main", append(above, detailsOf(sorted, room), history)...),
			el("footer", el("p", say("mxcert %s. Times are in UTC. This page loads nothing and contains no script.", finding.Quote(s.Release, 64)))))))
}

// headerOf says at once whether all is well.
func headerOf(s Sight, h headline) *element {
	lead := parts{text(h.lead)}
	if !s.Since.IsZero() {
		lead = append(lead, text(" So at least since "), moment(s.Since), text("."))
	}
	return el("header",
		el("p", class("host"), text("mxcert on "), el("b", hostName(s.Host))),
		el("div", class(strings.TrimSpace("summary "+h.class)),
			el("h1", el("span", is("aria-hidden", "true"), say("%s ", h.sign)), text(h.word)),
			el("p", lead),
			el("p", append(parts{class("made")}, madeBy(s)...)...)))
}

// section is a part of the page with a heading.
func section(id, title string, list ...part) *element {
	return el("section", append(parts{is("aria-labelledby", id), el("h2", is("id", id), text(title))}, list...)...)
}

// mostAlarms limits the list of alarms.
const mostAlarms = 100

// alarmsOf lists what a person should know.
func alarmsOf(alarms []Alarm) *element {
	if len(alarms) == 0 {
		return nil
	}
	list := parts{class("alarms")}
	for _, a := range alarms[:min(len(alarms), mostAlarms)] {
		m := mark{"warn", "!", "Warning"}
		if a.Severity == finding.Error {
			m = mark{"bad", "✗", "Fault"}
		}
		head := parts{m.show(), text(" ")}
		if a.Subject != "" {
			head = append(head, el("b", hostName(a.Subject)), text(": "))
		}
		item := parts{class(m.class), el("p", append(head, foreign(a.Title))...)}
		if a.What != "" {
			item = append(item, el("p", foreign(a.What)))
		}
		if a.Senders != "" {
			item = append(item, el("p", class("next"), text("Senders see: "), foreign(a.Senders)))
		}
		if !a.Since.IsZero() {
			since := parts{class("next"), text("Since "), moment(a.Since)}
			if !a.Told.IsZero() {
				since = append(since, text("; people were told at "), moment(a.Told))
			}
			item = append(item, el("p", since...))
		}
		if !a.Gone.IsZero() {
			item = append(item, el("p", class("next"), text("Not found any more since "), moment(a.Gone), text("; it is over if it stays so")))
		}
		if a.Next != "" {
			item = append(item, el("p", class("next"), text("Next: "), foreign(a.Next)))
		}
		list = append(list, el("li", item...))
	}
	if more := len(alarms) - mostAlarms; more > 0 {
		list = append(list, el("li", say("and %d more; mxcert status shows them", more)))
	}
	return section("attention", "What needs attention", el("ul", list...))
}

// overviewOf is the table of all certificates, with a bar for each key type. When it is full, it leaves out the last.
func overviewOf(sorted []Certificate, s Sight) *element {
	body, used, shown := parts{}, 0, 0
	for i, c := range sorted {
		row, size := flat(overviewRow(c, strconv.Itoa(i), s))
		if used += size; used > mostRows {
			break
		}
		body, shown = append(body, row), shown+1
	}
	caption := fmt.Sprintf("%d %s, those with a fault first. A bar shows the life of a certificate: the coloured part was over when the page was made; the dashed line is the renewal.", len(sorted), report.Plural(len(sorted), "certificate"))
	list := parts{el("div", class("sheet"), el("table", class("all-certificates"),
		el("caption", text(caption)),
		el("colgroup", el("col", class("who")), el("col", class("how")), el("col")),
		el("thead", el("tr", head("Certificate"), head("State"), head("Life"))),
		el("tbody", body...)))}
	if more := len(sorted) - shown; more > 0 {
		list = append(list, el("p", class("soft"), say("%d more %s left out to keep the page small; mxcert status shows all.", more, report.Plural(more, "certificate"))))
	}
	return section("certificates", "Certificates", list...)
}

func head(title string) *element { return el("th", is("scope", "col"), text(title)) }

// overviewRow is the row of a certificate.
func overviewRow(c Certificate, id string, s Sight) *element {
	r := c.Report
	who := parts{is("scope", "row"), text(finding.Quote(r.Name, 100))}
	if len(r.Names) > 0 {
		more := ""
		if len(r.Names) > 1 {
			more = fmt.Sprintf(" and %d more", len(r.Names)-1)
		}
		who = append(who, el("div", append(append(parts{class("small soft")}, hostName(r.Names[0])...), text(more))...))
	}
	var life parts
	for i, k := range r.Keys {
		life = append(life, lifeBar(id+"-"+strconv.Itoa(i), k, r.NextRenewal, s.At),
			el("div", class("small"), el("b", text(finding.Quote(k.Key, 20))), say(": %s, expires %s", left(k.NotAfter, s.At), report.Minute(k.NotAfter))))
	}
	if len(r.Keys) == 0 {
		life = append(life, el("span", class("soft"), text("no certificate yet")))
	}
	if r.NextRenewal != nil {
		life = append(life, el("div", class("small soft"), say("renewal %s", report.Minute(*r.NextRenewal))))
	}
	return el("tr", el("th", who...), el("td", markOf(c).show()), el("td", life...))
}
