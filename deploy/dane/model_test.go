package dane

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// This file is a model of the world around mxcert, with no code of the product: name servers that lag, lose records and are silent; resolvers
// that hold what they have heard; a host whose clocks jump; and what senders decide. See model_run_test.go for what is checked with it.

// cert is a certificate by what records can name.
type cert struct {
	key, issuer, serial string
}

// rec is a record: 311, 312 or 301 of a key or certificate, 211 of an issuer, or 111, which senders cannot use.
type rec struct {
	kind, of string
}

func (c cert) id() string { return c.key + c.issuer + c.serial }

func (r rec) fits(c cert) bool {
	return (r.kind == "311" || r.kind == "312") && r.of == c.key || r.kind == "301" && r.of == c.id() || r.kind == "211" && r.of == c.issuer
}

// senderAccepts is what a sender decides who holds the records. One with digest agility looks at 312 and not at 311 if there are both.
func senderAccepts(records []rec, c cert, agile bool) bool {
	usable, fits := false, false
	for _, r := range records {
		if r.kind == "111" {
			continue
		}
		usable = true
		if agile && r.kind == "311" && slices.ContainsFunc(records, func(o rec) bool { return o.kind == "312" }) {
			continue
		}
		fits = fits || r.fits(c)
	}
	return fits || !usable
}

// rrset is what a server answers.
type rrset struct {
	records []rec // sorted
	ttl     time.Duration
}

func (s rrset) String() string { return fmt.Sprint(s.records, s.ttl) }

// cached is a set in a cache of somebody, until a time.
type cached struct {
	rrset
	until time.Duration
	met   bool // a look has met it since it was given
}

// server is one address of a name server.
type server struct {
	gives  rrset
	met    bool // a look has met what it gives
	silent bool // for mxcert; senders may still reach it
}

// universe is everything outside of the product. Real is the time since the beginning.
type universe struct {
	rng      *rand.Rand
	real     time.Duration
	ahead    time.Duration // the host's clock
	up       time.Duration
	asleep   time.Duration
	boots    int
	servers  []server
	versions []rrset // of the zone, the last one is current
	caches   map[string]cached
	lives    []func(ttl time.Duration) time.Duration // for how long resolvers hold a set, by their kind
	pool     []rec
	ttls     []time.Duration
	served   []cert // by the endpoints
	soon     bool   // the zone is changed right after the first look
}

func newUniverse(seed uint64, hold time.Duration) *universe {
	u := &universe{rng: rand.New(rand.NewPCG(seed, 13)), up: time.Hour, caches: map[string]cached{}}
	plain := func(ttl time.Duration) time.Duration { return ttl }
	u.lives, u.ttls = append(u.lives, plain), []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}
	if hold > 0 {
		minimum := func(ttl time.Duration) time.Duration { return max(ttl, 4*time.Hour) }
		expired := func(ttl time.Duration) time.Duration { return ttl + hold/2 }
		u.lives = append(u.lives, minimum, expired)
	}
	for _, key := range []string{"a", "b", "c"} {
		u.pool = append(u.pool, rec{"311", key}, rec{"311", key})
	}
	u.pool = append(u.pool, rec{"312", "a"}, rec{"312", "b"}, rec{"301", "a11"}, rec{"301", "b12"}, rec{"211", "1"}, rec{"211", "2"}, rec{"111", "x"})
	first := u.some()
	u.versions = []rrset{first}
	u.servers = make([]server, 1+u.rng.IntN(3))
	for i := range u.servers {
		u.servers[i].gives = first
	}
	if hold > 0 { // the TTL was lowered a moment ago
		u.give(rrset{first.records, 24 * time.Hour}, false)
		u.soon = u.rng.IntN(2) == 0
	}
	for range 1 + u.rng.IntN(2) {
		u.served = append(u.served, u.cert())
	}
	return u
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// some makes a random set; it may be empty.
func (u *universe) some() rrset {
	var s rrset
	for range u.rng.IntN(4) {
		s = s.with(pick(u.rng, u.pool))
	}
	s.ttl = pick(u.rng, u.ttls)
	return s
}

func (s rrset) with(r rec) rrset {
	list := slices.Clone(s.records)
	if !slices.Contains(list, r) {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b rec) int { return slices.Compare([]string{a.kind, a.of}, []string{b.kind, b.of}) })
	return rrset{list, s.ttl}
}

func (u *universe) cert() cert {
	return cert{pick(u.rng, []string{"a", "b", "c"}), pick(u.rng, []string{"1", "2"}), pick(u.rng, []string{"1", "2"})}
}

// give lets a resolver of each kind hear a set now.
func (u *universe) give(s rrset, met bool) {
	for kind, life := range u.lives {
		name := fmt.Sprint(kind, s)
		u.caches[name] = cached{s, u.real + life(s.ttl), met || u.caches[name].met && u.caches[name].until >= u.real}
	}
}

// held are the sets that a sender may use now: what caches hold, and what any server gives.
func (u *universe) held() []cached {
	var list []cached
	for name, c := range u.caches {
		if c.until < u.real {
			delete(u.caches, name)
			continue
		}
		list = append(list, c)
	}
	for _, s := range u.servers {
		list = append(list, cached{s.gives, u.real, s.met})
	}
	return list
}

// pass lets time pass: first for everybody, then something happens to the host's clocks or to servers.
func (u *universe) pass() {
	step := 10*time.Minute + time.Duration(u.rng.Int64N(int64(3*time.Hour)))
	if u.rng.IntN(10) == 0 {
		step += time.Duration(u.rng.Int64N(int64(40 * time.Hour)))
	}
	u.real, u.up = u.real+step, u.up+step
	switch u.rng.IntN(20) {
	case 0:
		u.ahead += time.Duration(u.rng.Int64N(int64(100*time.Hour))) - 30*time.Hour
	case 1:
		sleep := time.Duration(u.rng.Int64N(int64(10 * time.Hour)))
		u.real, u.up, u.asleep = u.real+sleep, u.up+sleep, u.asleep+sleep
	case 2:
		u.up, u.asleep, u.boots = time.Minute, 0, u.boots+1
	case 3:
		pause := time.Duration(u.rng.Int64N(int64(10 * time.Hour)))
		u.real, u.ahead = u.real+pause, u.ahead-pause // nothing on the host notices
	}
	u.operator()
	for i := range u.servers {
		u.server(&u.servers[i])
	}
}

// operator changes the zone now and then.
func (u *universe) operator() {
	current := u.versions[len(u.versions)-1]
	next := current
	choice := u.rng.IntN(12)
	if u.soon {
		u.soon, choice = false, 4
	}
	switch choice {
	case 0, 1:
		next = current.with(pick(u.rng, u.pool))
	case 2:
		if n := len(current.records); n > 0 {
			next.records = slices.Delete(slices.Clone(current.records), 0, 1)
		}
	case 3:
		next.ttl = pick(u.rng, u.ttls)
	case 4:
		next = u.some()
	}
	if next.String() != current.String() {
		u.versions = append(u.versions, next)
	}
}

// server updates one server, unless it lags, or restores an old version. It only does so once a look has met what it gives: nobody can know of a
// set that came and went between two looks.
func (u *universe) server(s *server) {
	u.give(s.gives, s.met)
	if s.silent = u.rng.IntN(5) == 0 || s.silent && u.rng.IntN(2) == 0; !s.met {
		return
	}
	next := s.gives
	switch u.rng.IntN(10) {
	case 0: // restored from a backup
		next = pick(u.rng, u.versions)
	case 1, 2, 3: // lags
	default:
		next = u.versions[len(u.versions)-1]
	}
	if next.String() != s.gives.String() {
		s.gives, s.met = next, false
		u.give(next, false)
	}
}

// meets is a look that has heard a server. It also knows that the records may have had another TTL.
func (u *universe) meets(s *server) {
	s.met = true
	u.give(s.gives, true)
	for name, c := range u.caches {
		c.met = c.met || slices.Equal(c.records, s.gives.records)
		u.caches[name] = c
	}
}

// breaks returns the set of a sender who accepts what some endpoint serves now and would not accept another certificate; nil if there is none.
// With onlyMet it leaves out sets that no look can know of.
func (u *universe) breaks(next cert, onlyMet bool) *rrset {
	for _, s := range u.held() {
		for _, agile := range []bool{true, false} {
			for _, old := range u.served {
				if (s.met || !onlyMet) && senderAccepts(s.records, old, agile) && !senderAccepts(s.records, next, agile) {
					return &s.rrset
				}
			}
		}
	}
	return nil
}
