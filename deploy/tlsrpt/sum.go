package tlsrpt

import (
	"cmp"
	"slices"
	"time"
)

// Sum is what one organisation reports about one host again and again: the same kind of failure, in one stretch of time.
type Sum struct {
	Organization string
	Policy       string // its type
	Domain       string // of the policy
	Testing      bool   // the policy was one of MTA-STS in testing mode: the mail was delivered
	Type         string // "" if no report says why
	Host         string // the MX host; "" if the failure is not about one, or if it is not known
	Addresses    []string
	Sessions     int64 // that failed
	Of           int64 // all sessions of the policy in these reports
	First, Last  time.Time
	Reports      int
	Reason       string // of the sender, an example

	Later bool // a later report of the organisation about the same policy has sessions and not this failure
}

// Sender is what one organisation reports in all.
type Sender struct {
	Organization string
	Good, Bad    int64 // sessions
	First, Last  time.Time
	Reports      int
}

const (
	// pause is how long a failure must be absent to count as another one.
	pause = 7 * 24 * time.Hour
	// mostAddresses limits those that a sum lists.
	mostAddresses = 8
	// mostSums limits the sums: nobody reads more, and a forger could make many.
	mostSums = 5_000
)

// Unique returns each report once, in the order of time.
func Unique(reports []Report) []Report {
	list := slices.Clone(reports)
	slices.SortStableFunc(list, func(a, b Report) int { return cmp.Or(a.From.Compare(b.From), a.Until.Compare(b.Until)) })
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(r Report) bool {
		key := r.Key()
		twice := seen[key]
		seen[key] = true
		return twice
	})
}

// weight counts what a report has: it stands for the memory that it needs.
func weight(r Report) int {
	n := 1 + len(r.Policies)
	for _, p := range r.Policies {
		n += len(p.Failures)
	}
	return n
}

// Newest drops the oldest reports, and those that are there twice, until all together have no more than so many reports, policies and failures.
// It does so only if they have twice as many: that is cheap for whoever adds one report after another.
func Newest(reports []Report, most int) []Report {
	sum := 0
	for _, r := range reports {
		sum += weight(r)
	}
	if sum <= 2*most {
		return reports
	}
	list := Unique(reports)
	first, sum := len(list), 0
	for ; first > 0 && sum+weight(list[first-1]) <= most; first-- {
		sum += weight(list[first-1])
	}
	return slices.Clone(list[first:])
}

// Senders sums unique reports up by organisation, the one with the most sessions first.
func Senders(reports []Report) []Sender {
	index := map[string]int{}
	var list []Sender
	for _, r := range reports {
		i, known := index[r.Organization]
		if !known {
			i = len(list)
			index[r.Organization] = i
			list = append(list, Sender{Organization: r.Organization, First: r.From, Last: r.Until})
		}
		s := &list[i]
		for _, p := range r.Policies {
			s.Good, s.Bad = plus(s.Good, p.Good), plus(s.Bad, p.failed())
		}
		s.Last, s.Reports = later(s.Last, r.Until), s.Reports+1
	}
	slices.SortStableFunc(list, func(a, b Sender) int { return cmp.Compare(b.Good+b.Bad, a.Good+a.Bad) })
	return list
}

// failed is how many sessions failed. Some senders count them only in the details.
func (p Policy) failed() int64 {
	var sum int64
	for _, f := range p.Failures {
		sum = plus(sum, f.Sessions)
	}
	return max(p.Bad, sum)
}

// plus adds without overflow.
func plus(a, b int64) int64 { return min(a+b, 1000*mostSessions) }

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Failures sums the failures of unique reports in the order of time up.
func Failures(reports []Report) []Sum {
	type key struct{ organization, policy, domain, kind, host string }
	index := map[key]int{}
	var list []Sum
	for _, r := range reports {
		counted := map[key]bool{} // in this report
		for _, p := range r.Policies {
			for _, f := range p.details() {
				k := key{r.Organization, p.Type, p.Domain, f.Type, f.Host}
				i, known := index[k]
				if !known || r.From.Sub(list[i].Last) > pause {
					if len(list) == mostSums {
						continue
					}
					i = len(list)
					index[k] = i
					list = append(list, Sum{Organization: r.Organization, Policy: p.Type, Domain: p.Domain, Testing: p.Testing, Type: f.Type, Host: f.Host, First: r.From, Last: r.Until})
				}
				list[i].add(r, p, f, counted[k])
				counted[k] = true
			}
		}
	}
	looks := looksOf(reports)
	for i := range list {
		list[i].Later = list[i].later(looks)
	}
	return list
}

// add adds a failure. If again is set, the report has had one of the same kind already.
func (s *Sum) add(r Report, p Policy, f Failure, again bool) {
	s.Sessions, s.Last, s.Testing = plus(s.Sessions, f.Sessions), later(s.Last, r.Until), s.Testing && p.Testing
	if s.Reason == "" {
		s.Reason = f.Reason
	}
	if f.Address != "" && !slices.Contains(s.Addresses, f.Address) && len(s.Addresses) < mostAddresses {
		s.Addresses = append(s.Addresses, f.Address)
	}
	if !again {
		s.Of, s.Reports = plus(s.Of, plus(p.Good, p.failed())), s.Reports+1
	}
}

// details lists the failures of a policy with the host of each. If a report only counts them, one failure without a type stands for them.
func (p Policy) details() []Failure {
	list := slices.Clone(p.Failures)
	if len(list) == 0 && p.Bad > 0 {
		list = []Failure{{Sessions: p.Bad}}
	}
	list = slices.DeleteFunc(list, func(f Failure) bool { return f.Sessions == 0 && p.Bad == 0 }) // nothing failed
	for i := range list {
		if list[i].Host == "" && p.Type == "tlsa" {
			list[i].Host = p.Domain // the TLSA base domain is the host
		}
	}
	return list
}

// policyOf identifies a policy of an organisation.
type policyOf struct{ organization, policy, domain string }

// look is what a report says about a policy.
type look struct {
	from   time.Time
	failed map[[2]string]bool // by type and host
}

// looksOf returns the reports with good sessions about each policy.
func looksOf(reports []Report) map[policyOf][]look {
	all := map[policyOf][]look{}
	for _, r := range reports {
		for _, p := range r.Policies {
			if p.Good == 0 {
				continue
			}
			l := look{r.From, map[[2]string]bool{}}
			for _, f := range p.details() {
				l.failed[[2]string{f.Type, f.Host}] = true
			}
			key := policyOf{r.Organization, p.Type, p.Domain}
			all[key] = append(all[key], l)
		}
	}
	return all
}

// later reports whether a report after the failure shows the same policy without it.
func (s Sum) later(looks map[policyOf][]look) bool {
	return slices.ContainsFunc(looks[policyOf{s.Organization, s.Policy, s.Domain}], func(l look) bool {
		return !l.from.Before(s.Last.Add(-time.Minute)) && !l.failed[[2]string{s.Type, s.Host}]
	})
}
