package schedule

import "time"

// Span is a maintenance window: a time of day, in the zone of the times that it is compared with, on some days of the
// week.
type Span struct {
	Days     [7]bool       // by time.Weekday: the days on which it starts
	From, To time.Duration // since midnight; if To is not after From, it ends on the next day
}

// Wanted is when a renewal should happen.
type Wanted struct {
	At         time.Time // the instant that was drawn
	Start, End time.Time // the CA's window (RFC 9773); zero if there is none
	Latest     time.Time // from then on the certificate is in danger
	Fraction   float64   // 0 to below 1: the place in a maintenance window, the same at each call for one certificate
}

// In returns the instant at which a renewal happens, within the maintenance windows, in the zone loc, as seen at the moment
// now. Without windows it is w.At, or w.Latest if that is earlier. It prefers an instant in both the CA's window and a
// maintenance window, then the first maintenance window after w.At; it does not wait for one that starts after w.Latest. If
// an instant has passed unused, because the host was down or the renewal failed, the renewal happens in the same window or
// in the next.
func (w Wanted) In(spans []Span, loc *time.Location, now time.Time) time.Time {
	at := w.plan(spans, loc)
	if len(spans) == 0 || !at.Before(now) || !now.Before(w.Latest) {
		return at
	}
	for _, s := range occurrences(spans, now.In(loc)) {
		if !now.Before(s.start) && now.Before(s.end) {
			return at
		}
	}
	return Wanted{At: now, Latest: w.Latest, Fraction: w.Fraction}.plan(spans, loc)
}

// plan is the first choice.
func (w Wanted) plan(spans []Span, loc *time.Location) time.Time {
	at := w.At
	if at.After(w.Latest) {
		at = w.Latest
	}
	if len(spans) == 0 {
		return at
	}
	for _, s := range occurrences(spans, at.In(loc)) {
		if !at.Before(s.start) && at.Before(s.end) {
			return at
		}
	}
	if !w.Start.IsZero() {
		for _, s := range occurrences(spans, w.Start.In(loc)) {
			if start, end := later(s.start, w.Start), earlier(s.end, earlier(w.End, w.Latest)); start.Before(end) {
				return s.at(start, end, w.Fraction)
			}
		}
	}
	for _, s := range occurrences(spans, at.In(loc)) {
		if start, end := later(s.start, at), earlier(s.end, w.Latest); start.Before(end) {
			return s.at(start, end, w.Fraction)
		}
	}
	return w.Latest
}

// occurrence is a maintenance window on a certain day.
type occurrence struct{ start, end time.Time }

func (occurrence) at(start, end time.Time, fraction float64) time.Time {
	return start.Add(time.Duration(fraction * float64(end.Sub(start)))).UTC().Truncate(time.Second)
}

// occurrences lists the windows of the day before a moment and the eight days from it on, in the order of their start.
// A time of day that the clock leaves out or shows twice counts as time.Date has it.
func occurrences(spans []Span, from time.Time) []occurrence {
	var list []occurrence
	for day := -1; day <= 8; day++ {
		year, month, date := from.AddDate(0, 0, day).Date()
		begin := len(list)
		for _, s := range spans {
			if !s.Days[time.Date(year, month, date, 12, 0, 0, 0, from.Location()).Weekday()] {
				continue
			}
			next := 0
			if s.To <= s.From {
				next = 1
			}
			list = append(list, occurrence{start: clock(year, month, date, s.From, from.Location()), end: clock(year, month, date+next, s.To, from.Location())})
		}
		for i := begin + 1; i < len(list); i++ { // a handful: sorted by insertion
			for j := i; j > begin && list[j].start.Before(list[j-1].start); j-- {
				list[j], list[j-1] = list[j-1], list[j]
			}
		}
	}
	return list
}

func clock(year int, month time.Month, day int, since time.Duration, loc *time.Location) time.Time {
	return time.Date(year, month, day, int(since/time.Hour), int(since/time.Minute)%60, 0, 0, loc)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
