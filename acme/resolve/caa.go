package resolve

import (
	"context"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// CAA is one CAA record (RFC 8659 section 4.1).
type CAA struct {
	Critical bool
	Tag      string // in lower case
	Value    string
}

// CAASet is the relevant CAA RRset of a name.
type CAASet struct {
	Owner   string // the name at which it was found, on the way up; "" if there is no set, so that all CAs may issue
	Alias   string // where CNAME records lead from Owner; "" if there is no such record
	Records []CAA
	Bogus   *Error // the first name on the way whose data are bogus; another resolver may have returned records
}

// mostCAA limits how many records of a set are looked at.
const mostCAA = 200

// CAA finds the relevant RRset of a name, which for a wildcard is the name without "*.": the one at the name or the
// nearest name above it. A CNAME leads to the set of its target, but the way up is that of the name itself (RFC 8659
// section 3). The error is an *Error, or the context's: without an answer a CA must not issue.
func (r *Resolver) CAA(ctx context.Context, name string) (CAASet, error) {
	var set CAASet
	for owner := dns.CanonicalName(name); owner != "."; owner = parentName(owner) {
		found, err := r.caaAt(ctx, owner)
		if set.Bogus == nil {
			set.Bogus = found.Bogus
		}
		if err != nil || len(found.Records) > 0 {
			found.Bogus = set.Bogus
			return found, err
		}
	}
	return set, nil
}

// caaAnswer is the answer for one name on the way.
type caaAnswer struct {
	set CAASet
	err error // an error other than set.Bogus, which is as definite as an answer
}

// caaAt asks for one name on the way, once for all names below it.
func (r *Resolver) caaAt(ctx context.Context, owner string) (CAASet, error) {
	got, err := recall(ctx, &r.memory, "caa/"+owner, func() (caaAnswer, time.Duration, error) {
		answer, failed, err := r.ask(ctx, owner, dns.TypeCAA)
		bogus := r.confirmBogus(ctx, owner, dns.TypeCAA, failed)
		if err != nil && bogus == nil {
			return caaAnswer{}, 0, err
		}
		got, life := caaAnswer{err: err}, longestMemory
		if answer != nil {
			got.set, life = caaIn(answer, owner), lifeOf(answer)
		}
		got.set.Bogus = bogus
		return got, life, nil
	})
	if err != nil {
		return CAASet{}, err
	}
	return got.set, got.err
}

// caaIn reads the CAA records of a name, or of the end of its CNAME records.
func caaIn(answer *dns.Msg, owner string) CAASet {
	var set CAASet
	end := followAliases(answer, owner)
	for _, rr := range answer.Answer {
		caa, ok := rr.(*dns.CAA)
		if !ok || dns.CanonicalName(caa.Hdr.Name) != end || len(set.Records) == mostCAA {
			continue
		}
		set.Owner = owner
		set.Records = append(set.Records, CAA{Critical: caa.Flag&128 != 0, Tag: strings.ToLower(caa.Tag), Value: caa.Value})
	}
	if end != owner && set.Owner != "" {
		set.Alias = end
	}
	return set
}
