package schedule

import "time"

// Again is the delay before a name that was left out of a certificate is tried again, after that many failures in a row. If the last one
// cost an order, it is 10 minutes, 100 minutes, then a day; if a look before an order found the reason, which costs the CA nothing,
// never more than an hour. Up to a tenth is added, so that hosts do not come back together.
func Again(failures int, ordered bool) time.Duration {
	delay := Backoff(max(failures, 1) + 1)
	if !ordered {
		delay = min(delay, Spread(time.Hour))
	}
	return delay
}
