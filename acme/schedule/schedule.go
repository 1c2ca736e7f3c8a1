// Package schedule decides when: when a certificate is renewed, when a failure is tried again, whether an order fits the
// CA's limits, and whose turn it is. It is pure: it sends nothing and stores nothing, so that a test can simulate years in a
// moment.
//
// # Two years
//
// TestTwoYears runs fleets on one account through two years of simulated time with these very functions. The CA counts for
// itself and enforces the limits that Let's Encrypt publishes, is down for 36 hours and fails one order in a hundred. If it
// offers renewal information, it also revokes everything at once. It announces that a day before for the small fleets, which
// ask every 6 hours, and 5 days before for the large ones, which ask daily. Ten thousand first certificates take some days,
// within the account's limit. "peak" is what counted against the account in 3 hours (300 are allowed), "left" the least life
// that a certificate had when it was replaced. Short-lived certificates of a large fleet need a CA that exempts
// replacements from its limits.
//
//	fleet    life  CA        orders  refused  expired   peak/3h      left
//	    1    90 d  no ARI        13        0        0         1     721 h
//	    1    47 d  ARI           24        0        0         1     365 h
//	    1     6 d  ARI          224        0        0         1      51 h
//	  100    90 d  no ARI      1318        0        0       100     720 h
//	  100    90 d  ARI         1318        0        0       100     698 h
//	  100    47 d  no ARI      2427        0        0       100     376 h
//	  100    47 d  ARI         2427        0        0       100     364 h
//	  100     6 d  no ARI     22343        0        0       105      79 h
//	  100     6 d  ARI        22501        0        0       100      27 h
//	10000    90 d  no ARI    131283        0        0       233     719 h
//	10000    47 d  ARI       242310        0        0       189     364 h
//	10000     6 d  ARI      2236749        0        0       189      25 h
package schedule

import (
	"math/rand/v2"
	"time"
)

// shortLife is the lifetime below which a certificate is renewed at half of it instead of two thirds.
const shortLife = 10 * 24 * time.Hour

// RenewalTime draws the moment at which to renew a certificate if the CA offers no renewal information: when a third of its
// lifetime is left, or half of it if it lives less than ten days, up to a fiftieth of the lifetime earlier, so that hosts
// installed together do not ask together. The caller stores it: each call draws again.
//
// The moment is never in the first half of what was left of the certificate's life when it was issued: a CA may date it
// back, and a certificate that is due as soon as it arrives would be ordered without end.
func RenewalTime(notBefore, notAfter, issued time.Time) time.Time {
	lifetime := notAfter.Sub(notBefore)
	left := lifetime / 3
	if lifetime < shortLife {
		left = lifetime / 2
	}
	early := time.Duration(rand.Float64() * float64(lifetime) / 50)
	at := notAfter.Add(-left - early)
	if earliest := issued.Add(notAfter.Sub(issued) / 2); at.Before(earliest) && issued.After(notBefore) {
		at = earliest
	}
	return at.UTC().Truncate(time.Second)
}

// Latest is the moment from which a certificate is in danger. Whatever the CA's window or the maintenance window say, the
// last tenth of the lifetime is kept for renewals that fail.
func Latest(notBefore, notAfter time.Time) time.Time {
	return notAfter.Add(-notAfter.Sub(notBefore) / 10)
}

// Draw returns an instant from start to before end, each equally likely (RFC 9773 section 4.2); end must be after start.
func Draw(start, end time.Time) time.Time {
	return start.Add(time.Duration(rand.Int64N(int64(end.Sub(start))))).Truncate(time.Second)
}

// Backoff is the delay after that many failures in a row: 1 min, 10 min, 100 min, then a day, and up to a tenth more, so
// that hosts do not come back together.
func Backoff(failures int) time.Duration {
	delays := [...]time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour}
	return Spread(delays[min(max(failures, 1), len(delays))-1])
}

// Spread adds up to a tenth.
func Spread(delay time.Duration) time.Duration {
	if delay < 10 {
		return delay
	}
	return delay + time.Duration(rand.Int64N(int64(delay/10)))
}

const (
	// part of what is left of a certificate's life is the longest wait for the next try.
	part = 8
	// shortestWait is the shortest wait, in the last moments of a certificate.
	shortestWait = 5 * time.Second
)

// Within shortens a delay that starts at from and that nobody else asks for, so that it takes no more than an eighth of what is left of
// the certificate in service, which ends at expires: the last tries come before its end, whatever happened until then. If it has ended,
// the delay takes no more than an eighth of the time since then, because nothing is served that a sender trusts. A zero expires, of no
// certificate, changes nothing.
func Within(delay time.Duration, from, expires time.Time) time.Duration {
	if expires.IsZero() {
		return delay
	}
	return min(delay, max(expires.Sub(from).Abs()/part, shortestWait))
}
