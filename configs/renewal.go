package configs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Span is a maintenance window: a time of day on some days of the week.
type Span struct {
	Days     [7]bool       // by time.Weekday: the days on which it begins
	From, To time.Duration // since midnight; if To is not after From, it ends on the next day
}

// checkRenewal checks the windows of the section at p and reads them.
func (l *loader) checkRenewal(p string, r *Renewal) {
	r.Spans = nil
	for i, text := range r.Window {
		where := join(p, "window")
		if _, ok := l.index.places[at(where, i)]; ok {
			where = at(where, i)
		}
		span, err := parseSpan(text)
		if err != nil {
			l.bad(where, `write for example "02:00-05:00", "Sat,Sun 01:00-05:00" or "Mon-Fri 22:00-04:00"`, "%s: %v", quote(text), err)
			continue
		}
		r.Spans = append(r.Spans, span)
	}
	l.unique(join(p, "window"), r.Window)
}

// parseSpan reads "DAYS HH:MM-HH:MM"; without days it is every day.
func parseSpan(text string) (Span, error) {
	words := strings.Fields(text)
	var span Span
	var err error
	switch len(words) {
	case 1:
		span.Days = [7]bool{true, true, true, true, true, true, true}
	case 2:
		if span.Days, err = parseDays(words[0]); err != nil {
			return span, err
		}
	default:
		return span, errors.New("it must be a time of day, with or without days of the week before it")
	}
	from, to, ok := strings.Cut(words[len(words)-1], "-")
	if !ok {
		return span, errors.New("it needs a start and an end, with a - between them")
	}
	if span.From, err = parseClock(from); err != nil {
		return span, err
	}
	if span.To, err = parseClock(to); err != nil {
		return span, err
	}
	if span.From == span.To || span.From == 24*time.Hour {
		return span, errors.New("it must not end when it starts")
	}
	return span, nil
}

// parseDays reads "Sat,Sun" or "Mon-Fri" (also Mon..Fri, as systemd writes it), or both joined by commas.
func parseDays(text string) (days [7]bool, err error) {
	for _, part := range strings.Split(text, ",") {
		from, to, isRange := strings.Cut(strings.Replace(part, "..", "-", 1), "-")
		if !isRange {
			to = from
		}
		first, err := parseDay(from)
		if err != nil {
			return days, err
		}
		last, err := parseDay(to)
		if err != nil {
			return days, err
		}
		for d := first; ; d = (d + 1) % 7 {
			days[d] = true
			if d == last {
				break
			}
		}
	}
	return days, nil
}

func parseDay(text string) (time.Weekday, error) {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if name := d.String(); len(text) >= 3 && len(text) <= len(name) && strings.EqualFold(text, name[:len(text)]) {
			return d, nil
		}
	}
	return 0, fmt.Errorf("%q is not a day of the week", text)
}

// parseClock reads HH:MM up to 24:00.
func parseClock(text string) (time.Duration, error) {
	hours, minutes, ok := strings.Cut(text, ":")
	h, hourErr := strconv.ParseUint(hours, 10, 8)
	m, minuteErr := strconv.ParseUint(minutes, 10, 8)
	if !ok || hourErr != nil || minuteErr != nil || len(minutes) != 2 || len(hours) > 2 || m > 59 || h > 24 || h == 24 && m > 0 {
		return 0, fmt.Errorf("%q is not a time of day", text)
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute, nil
}
