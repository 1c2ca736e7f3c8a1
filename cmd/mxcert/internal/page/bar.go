package page

import (
	"fmt"
	"strconv"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
)

// The size of a life bar, in units of its own; the page scales it.
const (
	barWidth  = 240
	barHeight = 14
)

// lifeBar draws the life of a certificate: what is over, what is left, when it is renewed, and now. A screen reader reads it as one sentence. id
// makes its ids unique.
func lifeBar(id string, k report.Key, renewal *time.Time, now time.Time) *element {
	total := k.NotAfter.Sub(k.NotBefore)
	if total <= 0 {
		return nil
	}
	at := func(t time.Time) string {
		x := float64(t.Sub(k.NotBefore)) / float64(total) * barWidth
		return strconv.FormatFloat(min(max(x, 0), barWidth), 'f', 0, 64)
	}
	words := fmt.Sprintf("From %s until %s", report.Minute(k.NotBefore), report.Minute(k.NotAfter))
	shapes := parts{path("all", fmt.Sprintf("M0 7h%d", barWidth)), path("over", "M0 7h"+at(now))}
	if renewal != nil {
		words += fmt.Sprintf(", renewal %s", report.Minute(*renewal))
		if renewal.After(k.NotBefore) && renewal.Before(k.NotAfter) {
			shapes = append(shapes, path("renew", "M"+at(*renewal)+" 0v14"))
		}
	}
	over := min(max(float64(now.Sub(k.NotBefore))/float64(total), 0), 1)
	words += fmt.Sprintf("; %.0f %% over", over*100)
	shapes = append(shapes, path("now", "M"+at(now)+" 1v12"))
	list := parts{class("life " + urgency(k, now)), is("viewBox", fmt.Sprintf("0 0 %d %d", barWidth, barHeight)), is("role", "img"),
		is("aria-labelledby", "t"+id+" d"+id), el("title", is("id", "t"+id), say("Life of the %s certificate", finding.Quote(k.Key, 20))), el("desc", is("id", "d"+id), text(words))}
	return el("svg", append(list, shapes...)...)
}

func path(what, d string) *element { return el("path", class(what), is("d", d)) }

// urgency is a class for how much of a life is left: a fifth is little, as for alarms.
func urgency(k report.Key, now time.Time) string {
	total, left := k.NotAfter.Sub(k.NotBefore), k.NotAfter.Sub(now)
	switch {
	case left <= 0:
		return "bad"
	case left < total/5:
		return "warn"
	}
	return "good"
}
