package page

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
)

// Limits of what the details of one certificate show.
const (
	mostNames     = 30
	mostEndpoints = 40
	mostRecords   = 30
	mostHosts     = 40
	mostWarnings  = 20
)

// detailsOf shows each certificate in full, as long as there is room, in bytes.
func detailsOf(sorted []Certificate, room int) *element {
	var list parts
	for i, c := range sorted {
		card, size := flat(detailOf(c, i))
		if room -= size; room < 0 {
			list = append(list, el("p", class("soft"), say("The details of %d more %s are left out to keep the page small; mxcert status NAME shows them.", len(sorted)-i, report.Plural(len(sorted)-i, "certificate"))))
			break
		}
		list = append(list, card)
	}
	if len(list) == 0 {
		return nil
	}
	return section("details", "Details", list...)
}

// detailOf shows a certificate in full.
func detailOf(c Certificate, i int) *element {
	r, id := c.Report, "c"+strconv.Itoa(i)
	card := parts{class("card"), is("aria-labelledby", id),
		el("h3", is("id", id), text(finding.Quote(r.Name, 100)+" "), markOf(c).show())}
	if !c.Looked.IsZero() {
		card = append(card, el("p", class("small soft"), text("Looked at "), moment(c.Looked), text(".")))
	}
	return el("article", append(card, troubleOf(r), namesOf(r), waitsOf(r), endpointsOf(c), sendersOf(r), reportedOf(r.Reported), tlsaOf(r.TLSA))...)
}

// troubleOf says what is wrong, and the warnings.
func troubleOf(r report.Certificate) parts {
	var list parts
	if e := r.Error; e != nil {
		list = append(list, el("p", mark{"bad", "✗", "Fault"}.show(), text(" "), foreign(e.Message)))
		if e.Hint != "" {
			list = append(list, el("p", class("next"), text("Next: "), foreign(e.Hint)))
		}
	}
	for _, w := range r.Warnings[:min(len(r.Warnings), mostWarnings)] {
		list = append(list, el("p", mark{"warn", "!", "Warning"}.show(), text(" "), foreign(w)))
	}
	return list
}

// namesOf lists the names in the certificate, and those that it lacks.
func namesOf(r report.Certificate) parts {
	items := parts{class("names")}
	for _, name := range r.Names[:min(len(r.Names), mostNames)] {
		item := hostName(name)
		if slices.Contains(r.Missing, name) {
			item = append(item, text(" "), mark{"warn", "!", "missing"}.show())
		}
		items = append(items, el("li", item))
	}
	if more := len(r.Names) - mostNames; more > 0 {
		items = append(items, el("li", class("soft"), say("and %d more", more)))
	}
	list := parts{el("h4", text("Names")), el("ul", items...)}
	for _, l := range r.LeftOut[:min(len(r.LeftOut), mostNames)] {
		list = append(list, el("p", class("small"), mark{"warn", "!", "left out"}.show(), text(" "), hostName(l.Name), text(" since "), moment(l.Since), text(": "), foreign(l.Reason),
			text(". Next try: "), moment(l.NextTry)))
	}
	return list
}

// waitsOf says what is waited for.
func waitsOf(r report.Certificate) parts {
	var items parts
	add := func(list ...part) { items = append(items, el("li", list...)) }
	if r.NextTry != nil {
		add(text("mxcert tries again at "), moment(*r.NextTry))
	}
	for _, a := range r.Awaited[:min(len(r.Awaited), mostNames)] {
		add(hostName(a.Name), say(" (%s) becomes wanted if a look after ", finding.Quote(a.Reason, 200)), moment(a.Until), text(" finds it again"))
	}
	for _, name := range r.Leaving[:min(len(r.Leaving), mostNames)] {
		add(hostName(name), text(" leaves with the next renewal: DNS does not name this host so any more"))
	}
	if t := r.TLSA; t != nil {
		for _, k := range t.Keys {
			if k.WaitingFor == "" {
				continue
			}
			item := parts{say("TLSA, %s: ", finding.Quote(k.Key, 20)), foreign(k.WaitingFor)}
			if k.Until != nil {
				item = append(item, text(" (until "), moment(*k.Until), text(")"))
			}
			add(item)
		}
	}
	if len(items) == 0 {
		return nil
	}
	return parts{el("h4", text("Waits for")), el("ul", items...)}
}

// endpointsOf lists what each endpoint shows, and what each kind of sender decides there.
func endpointsOf(c Certificate) parts {
	r := c.Report
	title := el("h4", text("Endpoints"))
	if len(r.Endpoints) == 0 {
		why := "No endpoint was asked, so it is not known whether the certificate is served."
		if c.Looked.IsZero() {
			why = "Not looked at yet."
		}
		return parts{title, el("p", class("soft"), text(why))}
	}
	var body parts
	for _, e := range r.Endpoints[:min(len(r.Endpoints), mostEndpoints)] {
		who := parts{is("scope", "row"), text(finding.Quote(e.Address, 255)), el("div", class("small soft"), text(finding.Quote(e.Key, 20)))}
		body = append(body, el("tr", el("th", who...), el("td", shows(e, c.Looked)...), el("td", verdictsAt(c, e.Address))))
	}
	list := parts{title, el("table", class("endpoints"),
		el("caption", say("What each endpoint of %s shows, and what senders decide there.", finding.Quote(r.Name, 100))),
		el("colgroup", el("col", class("who")), el("col", class("what")), el("col")),
		el("thead", el("tr", head("Endpoint"), head("Shows"), head("Senders"))), el("tbody", body...))}
	if more := len(r.Endpoints) - mostEndpoints; more > 0 {
		list = append(list, el("p", class("soft"), say("%d more endpoints are left out.", more)))
	}
	return list
}

// shows says which certificate an endpoint shows.
func shows(e report.Endpoint, looked time.Time) (list parts) {
	switch {
	case e.Error != "":
		list = parts{mark{"bad", "✗", "error"}.show(), text(" "), foreign(e.Error)}
	case e.Matches:
		list = parts{mark{"good", "✓", "the current one"}.show()}
	default:
		list = parts{mark{"bad", "✗", "another one"}.show()}
	}
	switch e.OCSP {
	case "":
	case "good":
		list = append(list, el("div", class("small soft"), text("with its OCSP response")))
	default:
		list = append(list, el("div", mark{"warn", "!", "OCSP response: " + finding.Quote(e.OCSP, 20)}.show()))
	}
	if e.Serial != "" {
		list = append(list, el("div", class("serial"), text(finding.Quote(e.Serial, 64))))
	}
	if looked.Sub(e.SeenAt) > time.Minute && !e.SeenAt.IsZero() {
		list = append(list, el("div", class("small soft"), text("seen "), moment(e.SeenAt)))
	}
	return list
}

// verdictsAt shows what each kind of sender decides at an address.
func verdictsAt(c Certificate, address string) part {
	seen := slices.Clone(c.Seen)
	if c.Report.Senders != nil {
		seen = append(seen, c.Report.Senders.Hosts...)
	}
	i := slices.IndexFunc(seen, func(h report.SenderHost) bool { return net.JoinHostPort(h.Address, strconv.Itoa(h.Port)) == address })
	if i < 0 {
		return parts{el("span", class("soft"), text("not looked at"))}
	}
	return verdicts(seen[i].Verdicts)
}

// sendersOf shows what senders to the mail domains met when the daemon last looked.
func sendersOf(r report.Certificate) parts {
	if r.Senders == nil {
		return nil
	}
	list := parts{el("h4", text("As senders meet it"))}
	domains := parts{}
	for i, d := range r.Senders.Domains[:min(len(r.Senders.Domains), mostNames)] {
		if i > 0 {
			domains = append(domains, text(", "))
		}
		domains = append(domains, hostName(d)...)
	}
	if more := len(r.Senders.Domains) - mostNames; more > 0 {
		domains = append(domains, say(" and %d more", more))
	}
	n := len(r.Senders.Findings)
	how := mark{"good", "✓", "no fault"}
	if n > 0 {
		how = mark{"warn", "!", fmt.Sprintf("%d %s", n, report.Plural(n, "fault"))}
		if finding.Worst(r.Senders.Findings) == finding.Error {
			how.class, how.sign = "bad", "✗"
		}
	}
	list = append(list, el("p", how.show(), text(" for mail to "), domains, text(", seen "), moment(r.Senders.At)))
	var body parts
	for _, h := range r.Senders.Hosts[:min(len(r.Senders.Hosts), mostHosts)] {
		address := "no address"
		if h.Address != "" {
			address = net.JoinHostPort(finding.Quote(h.Address, 64), strconv.Itoa(h.Port))
		}
		body = append(body, el("tr", el("th", is("scope", "row"), hostName(h.MX), el("div", class("small soft"), text(address))), el("td", verdicts(h.Verdicts))))
	}
	if len(body) > 0 {
		list = append(list, el("table", class("senders"),
			el("caption", say("What each kind of sender decides about each MX host. mxcert-senders(7) explains the words.")),
			el("thead", el("tr", head("MX host"), head("Senders"))), el("tbody", body...)))
	}
	return list
}

// kinds lists the kinds of sender, in the order of reports.
func kinds() []string { return []string{"opportunistic", "pkix", "dane", "mta_sts", "requiretls"} }

// verdicts shows what each kind of sender decides, and why one that fails does.
func verdicts(all map[string]report.SenderVerdict) part {
	list, why := parts{class("verdicts")}, parts{}
	for _, kind := range kinds() {
		v, ok := all[kind]
		if !ok {
			continue
		}
		m := mark{"", "–", kind + ": n/a"}
		switch v.Result {
		case "pass":
			m = mark{"good", "✓", kind + ": pass"}
		case "fail":
			m = mark{"bad", "✗", kind + ": fail"}
			why = append(why, el("li", class("why"), say("%s: ", kind), foreign(v.Reason)))
		}
		list = append(list, el("li", m.show()))
	}
	return el("ul", append(list, why...)...)
}

// tlsaOf shows the TLSA records.
func tlsaOf(t *report.TLSA) parts {
	if t == nil {
		return nil
	}
	how := mark{"good", "✓", t.State}
	switch {
	case t.Fault():
		how = mark{"bad", "✗", t.State}
	case t.State != "steady":
		how = mark{"", "…", t.State}
	}
	list := parts{el("h4", text("TLSA records")), el("p", how.show(), say(" mode %s", finding.Quote(t.Mode, 20)))}
	if t.LookedAt != nil {
		list = append(list, el("p", class("small soft"), text("Looked at "), moment(*t.LookedAt), text(".")))
	}
	if t.SignedUntil != nil {
		list = append(list, el("p", class("small soft"), text("The first DNSSEC signature ends at "), moment(*t.SignedUntil), text(".")))
	}
	for _, o := range t.Owners[:min(len(t.Owners), mostHosts)] {
		m := mark{"", "?", "not known"}
		switch {
		case o.Matches != nil && *o.Matches:
			m = mark{"good", "✓", "accepted"}
		case o.Matches != nil:
			m = mark{"bad", "✗", "refused"}
		}
		list = append(list, el("p", m.show(), text(" "), hostName(o.Host), say(" port %d ", o.Port), foreign(o.Reason)))
	}
	var body parts
	for _, record := range t.Records[:min(len(t.Records), mostRecords)] {
		fits := record.Matches
		if fits == "" {
			fits = "nothing"
		}
		ours := ""
		if record.Ours {
			ours = ", added by mxcert"
		}
		where := fmt.Sprintf("at %d %s", len(record.SeenBy), report.Plural(len(record.SeenBy), "server"))
		if n := len(record.Missing); n > 0 {
			where += fmt.Sprintf(", missing at %d", n)
		}
		body = append(body, el("tr", el("th", is("scope", "row"), el("code", text(finding.Quote(record.Record, 200)))), el("td", text(finding.Quote(fits, 60)+ours), el("div", class("small soft"), text(where)))))
	}
	if len(body) > 0 {
		list = append(list, el("table", el("caption", text("The records in DNS, and which key each one fits.")),
			el("thead", el("tr", head("Record"), head("Fits"))), el("tbody", body...)))
	}
	return list
}
