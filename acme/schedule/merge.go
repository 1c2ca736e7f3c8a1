package schedule

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Merge returns the ledger of an account of which two hosts have noted orders: what theirs has, with all that ours has that base, the ledger
// on which both last agreed, has not; without what ours has withdrawn since. No entry counts twice, whoever merges how often.
func Merge(base, ours, theirs Ledger) Ledger {
	return Ledger{
		Orders:   union(base.Orders, ours.Orders, theirs.Orders, Placed.mark, func(p Placed) time.Time { return p.At }),
		Failures: union(base.Failures, ours.Failures, theirs.Failures, Failed.mark, func(f Failed) time.Time { return f.At }),
	}
}

// mark tells two entries apart.
func (p Placed) mark() string {
	return strings.Join([]string{p.At.UTC().Format(time.RFC3339Nano), p.Set, p.Key}, " ")
}

func (f Failed) mark() string { return f.At.UTC().Format(time.RFC3339Nano) + " " + f.Name }

// union merges lists of entries, each in the order of time. It keeps equal entries of one list apart: they are as many orders.
func union[E any](base, ours, theirs []E, mark func(E) string, at func(E) time.Time) []E {
	merged := slices.Clone(theirs)
	counted := counts(theirs, mark)
	agreed := counts(base, mark)
	for _, e := range ours {
		switch k := mark(e); {
		case agreed[k] > 0:
			agreed[k]-- // both had it; theirs may have withdrawn it
		case counted[k] > 0:
			counted[k]-- // it came to them by another way
		default:
			merged = append(merged, e)
		}
	}
	// What base has and ours has no more was withdrawn here, or is too old for both.
	merged = slices.DeleteFunc(merged, func(e E) bool {
		k := mark(e)
		if agreed[k] > 0 {
			agreed[k]--
			return true
		}
		return false
	})
	slices.SortStableFunc(merged, func(a, b E) int { return cmp.Or(at(a).Compare(at(b)), strings.Compare(mark(a), mark(b))) })
	return merged
}

func counts[E any](list []E, mark func(E) string) map[string]int {
	n := make(map[string]int, len(list))
	for _, e := range list {
		n[mark(e)]++
	}
	return n
}

// MergeBreakers returns the later of two breakers of one CA.
func MergeBreakers(a, b Breaker) Breaker {
	if b.At.After(a.At) || b.At.Equal(a.At) && b.Until.After(a.Until) {
		return b
	}
	return a
}
