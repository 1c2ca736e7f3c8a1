package alarm

import (
	"maps"
	"math"
	"slices"
	"time"

	"mxcert/hooks/notify"
)

// open tells the matters that can be told and were not: to everybody. The fresh recipients learn of the others as well.
func (b *Book) open(c *clock, host string, fresh []string) {
	var news, old []*entry
	for _, e := range b.Entries {
		switch {
		case e.Over || !e.Good.IsZero():
		case !e.Told.IsZero():
			old = append(old, e)
		case !e.sure:
		case !e.ripe:
			if e.age > 0 {
				c.due(e.Since.Add(e.age))
			}
		default:
			if told, ok := b.Causes[e.group()]; ok && !c.due(told.Last.Add(wait(firstGap, told.Times-1, mostGap))) {
				continue
			}
			news = append(news, e)
		}
	}
	if len(news) > 0 && b.mayMake(c) {
		for _, e := range news {
			e.Told = c.now
		}
		for group := range groups(news) {
			told := b.Causes[group]
			b.Causes[group] = cause{Last: c.now, Times: min(told.Times+1, 100)}
		}
		b.queue(compose(notify.Alarm, host, news, c.now), slices.Collect(maps.Keys(b.Lanes))...)
	}
	if len(old) > 0 && len(fresh) > 0 {
		b.queue(compose(notify.Alarm, host, old, c.now), fresh...)
	}
}

// wait returns a time that becomes four times as long with each time before.
func wait(first time.Duration, before int, most time.Duration) time.Duration {
	return time.Duration(min(float64(first)*math.Pow(4, float64(before)), float64(most)))
}

// mayMake reports whether a message about a change can be made now, and counts it.
func (b *Book) mayMake(c *clock) bool {
	left := min(atOnce, b.Messages+c.now.Sub(b.At).Seconds()/refill.Seconds())
	if left < 1 {
		c.due(c.now.Add(time.Duration((1-left)*refill.Seconds()+1) * time.Second))
		return false
	}
	b.Messages, b.At = left-1, c.now
	return true
}

// close tells what is over.
func (b *Book) close(c *clock, host string) {
	holding := map[string]bool{} // groups
	for _, e := range b.Entries {
		if !e.Over && !e.Told.IsZero() && e.Good.IsZero() {
			holding[e.group()] = true
		}
	}
	var over []*entry
	for group, list := range groups(b.Entries) {
		list = slices.DeleteFunc(list, func(e *entry) bool { return e.Over || e.Good.IsZero() || !c.due(e.Good.Add(e.hold())) })
		if len(list) == 0 {
			continue
		}
		oldest := slices.MinFunc(list, func(x, y *entry) int { return x.Good.Compare(y.Good) })
		if !holding[group] || c.due(oldest.Good.Add(partly)) {
			over = append(over, list...)
		}
	}
	if len(over) == 0 || !b.mayMake(c) {
		return
	}
	b.queue(compose(notify.Recovered, host, over, c.now), slices.Collect(maps.Keys(b.Lanes))...)
	for _, e := range over {
		e.Over, e.Good, e.Told, e.Recovered = true, time.Time{}, time.Time{}, append(e.Recovered, c.now)
		if len(e.Recovered) > 8 {
			e.Recovered = e.Recovered[1:]
		}
	}
}

// hold is how long a matter has to stay away until it counts as over.
func (e *entry) hold() time.Duration {
	calm := time.Duration(e.Calm) * time.Second
	if n := len(e.Recovered); n > 0 {
		return max(calm, wait(firstWait, n-1, mostWait))
	}
	return calm
}

// remind repeats what is still wrong to those who were told nothing about it for long.
func (b *Book) remind(c *clock, to []recipient, host string) {
	var open []*entry
	for _, e := range b.Entries {
		if e.sure && !e.Told.IsZero() && !e.Once {
			open = append(open, e)
		}
	}
	for _, r := range to {
		if r.repeat <= 0 || len(open) == 0 {
			continue
		}
		mentioned := func(e *entry) time.Time { return later(e.Told, e.Reminded[r.name]) }
		oldest := slices.MinFunc(open, func(x, y *entry) int { return mentioned(x).Compare(mentioned(y)) })
		if !c.due(mentioned(oldest).Add(r.repeat)) {
			continue
		}
		for _, e := range open {
			if e.Reminded == nil {
				e.Reminded = map[string]time.Time{}
			}
			e.Reminded[r.name] = c.now
		}
		b.queue(compose(notify.Reminder, host, open, c.now), r.name)
		c.due(c.now.Add(r.repeat))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// queue puts a message into queues. A full one loses its oldest message.
func (b *Book) queue(m notify.Message, names ...string) {
	for _, name := range names {
		l := b.Lanes[name]
		if l.Queue = append(l.Queue, m); len(l.Queue) > mostQueued {
			b.lost = append(b.lost, name)
			l.More++
			l.Queue = slices.Delete(l.Queue, 0, 1)
		}
	}
}
