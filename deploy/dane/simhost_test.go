package dane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// simKey is a key with a certificate.
type simKey struct {
	kind bundle.KeyType
	spki string
	der  []byte
	cert *x509.Certificate
}

// newSimKey makes a key. All are ECDSA, whatever they are called: nothing here depends on it.
func newSimKey(kind bundle.KeyType) *simKey {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: simStart.Add(-time.Hour), NotAfter: simStart.Add(1e5 * time.Hour), DNSNames: []string{"mx.example.org"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	digest := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return &simKey{kind: kind, spki: hex.EncodeToString(digest[:]), der: cert.RawSubjectPublicKeyInfo, cert: cert}
}

func (k *simKey) of() KeyOf { return KeyOf{Type: k.kind, SPKI: k.spki, DER: k.der} }

// simHost is an mxcert in the simulated world: what is on its disk, and passes over it. It does what package pass does, in that order.
type simHost struct {
	w         *simWorld
	types     []bundle.KeyType
	owners    []Owner
	settings  Settings
	addresses []string // of its mail server
	others    []string // other addresses of its names

	// On disk.
	stored   []byte
	next     map[bundle.KeyType]*simKey
	current  map[bundle.KeyType]*simKey
	kept     map[string]*simKey // keys of generations
	applying bool

	// What goes wrong.
	kill    int // the side effect at which the process is killed, the first is 1; 0: never
	after   bool
	effects int
	broken  int  // how many deployments fail
	halfway bool // such a deployment reaches one address before it is taken back
	noCA    bool
	mute    bool     // the service does not say what it holds
	names   []string // in the certificates that are served; nil: not known

	rollback bool // the current keys were chosen by an operator over those in proven
	proven   map[bundle.KeyType]*simKey
	off      struct{ gate, hold, grace bool } // rules of the product that are switched off

	yield func() // before each side effect another host may do something; nil: there is none

	state    State
	plan     Plan
	promoted int
	refused  int
}

func newSimHost(w *simWorld, types []bundle.KeyType, owners []Owner, settings Settings, addresses ...string) *simHost {
	h := &simHost{w: w, types: types, owners: owners, settings: settings, addresses: addresses}
	h.next, h.current, h.kept = map[bundle.KeyType]*simKey{}, map[bundle.KeyType]*simKey{}, map[string]*simKey{}
	for _, key := range types {
		h.current[key] = newSimKey(key)
		h.kept[h.current[key].spki] = h.current[key]
		for _, a := range addresses {
			w.serve(a+"/"+string(key), h.current[key])
		}
	}
	return h
}

var errKilled = errors.New("killed")

// effect is one side effect: the process may be killed before it, or after it.
func (h *simHost) effect(do func()) {
	if h.yield != nil {
		h.yield()
	}
	h.effects++
	if h.effects == h.kill && !h.after {
		panic(errKilled)
	}
	do()
	if h.effects == h.kill && h.after {
		panic(errKilled)
	}
}

func (h *simHost) save() {
	h.state.Version, h.state.Mode = state.Version, h.settings.Mode
	text, err := json.Marshal(h.state)
	if err != nil {
		panic(err)
	}
	h.effect(func() { h.stored = text })
}

// traced prints what happens.
var traced = os.Getenv("MXCERT_TRACE") != ""

// run is one process: a pass, which may be killed.
func (h *simHost) run() {
	if traced {
		defer func() {
			fmt.Println(h.w.now, h.plan.Phases, "add", h.plan.Add, "remove", h.plan.Remove, "make", h.plan.Make)
		}()
	}
	defer func() {
		if v := recover(); v != nil && v != errKilled {
			panic(v)
		}
	}()
	h.pass()
}

func (h *simHost) pass() {
	h.state = State{}
	if h.stored != nil {
		if err := json.Unmarshal(h.stored, &h.state); err != nil {
			panic(err)
		}
	}
	if h.state.Memory == nil {
		h.state.Memory = Memory{}
	}
	f := h.facts()
	for _, v := range f.Views {
		h.state.Memory.Note(v, h.settings)
	}
	if h.off.hold {
		for _, history := range h.state.Memory {
			history.Known = slices.DeleteFunc(history.Known, func(c Cached) bool { return len(c.By) == 0 && !c.Given })
		}
	}
	h.observe(f)
	h.save()
	h.plan = h.state.Plan(f)
	h.order()
	h.deploy(f)
	h.publish()
}

func (h *simHost) observe(f Facts) {
	if h.off.grace {
		for _, r := range h.state.Keys {
			for i := range r.Retired {
				r.Retired[i].Gone = 1e6 * time.Hour
			}
		}
	}
	h.state.Observe(f)
	if h.off.grace {
		for _, r := range h.state.Keys {
			for i := range r.Retired {
				r.Retired[i].Gone = 1e6 * time.Hour
			}
		}
	}
}

func (h *simHost) facts() Facts {
	f := Facts{Name: "mx", At: h.w.instant(), Settings: h.settings, Owners: h.owners, Types: h.types, Serving: map[string]bool{}, AllSeen: true, Probed: true, Applying: h.applying, Names: h.names}
	for _, o := range h.owners {
		f.Views = append(f.Views, h.w.look(o))
		f.Places = append(f.Places, h.w.place(o))
	}
	for _, key := range h.types {
		if k := h.current[key]; k != nil {
			f.Current = append(f.Current, k.of())
		}
		if k := h.next[key]; k != nil {
			f.Next = append(f.Next, k.of())
		}
	}
	for address, k := range h.w.served {
		host, _, _ := cutAddress(address)
		switch {
		case !slices.Contains(h.addresses, host) && !slices.Contains(h.others, host) || k == nil:
		case h.w.deaf[host]:
			f.AllSeen, f.Probed = false, false
		default:
			f.Serving[k.spki] = true
		}
	}
	return f
}

func cutAddress(address string) (host, key string, ok bool) {
	i := slices.Index([]byte(address), '/')
	return address[:i], address[i+1:], true
}

// order orders what has to be rolled.
func (h *simHost) order() {
	for _, key := range h.plan.Roll {
		if k := h.next[key]; k != nil && !h.noCA && h.current[key] != k {
			h.effect(func() { h.kept[k.spki] = k; h.current[key] = k })
		}
	}
}

// deploy brings what is current into service, if the gate permits it.
func (h *simHost) deploy(f Facts) {
	var changes []Change
	var moved bool
	for _, key := range h.types {
		k := h.current[key]
		if k == nil {
			return
		}
		var old [][]*x509.Certificate
		for _, a := range h.addresses {
			if s := h.w.served[a+"/"+string(key)]; s != nil {
				old = append(old, []*x509.Certificate{s.cert})
				moved = moved || s != k
			} else {
				moved = true
			}
		}
		for i, o := range h.owners {
			var unknown error
			if f.Views[i].Fault() != "" && len(f.Views[i].Sets()) == 0 {
				unknown = errors.New(f.Views[i].Fault())
			}
			changes = append(changes, Change{Owner: o, Names: []string{o.Host}, Key: string(key), Old: old, New: []*x509.Certificate{k.cert}, Unknown: unknown})
		}
	}
	if moved && !h.off.gate && h.state.Memory.Gate(changes, h.settings, f.At) != nil {
		h.refused++
		if h.rollback { // it is refused as a whole
			h.current = h.proven
		}
		return
	}
	if moved {
		h.effect(func() { h.applying = true })
		before := h.take()
		if h.broken > 0 {
			h.broken--
			if h.halfway {
				h.effect(func() { h.show(h.addresses[0], h.current) })
			}
			h.w.advance(h.w.now + time.Second)
			h.effect(func() {
				for a, keys := range before {
					h.show(a, keys)
				}
			})
			h.effect(func() { h.applying = false })
			return
		}
		for _, a := range h.addresses {
			h.effect(func() { h.show(a, h.current) })
		}
		h.w.advance(h.w.now + time.Second)
	}
	if !f.AllSeen {
		return
	}
	if h.applying {
		h.effect(func() { h.applying = false })
	}
	h.promote()
}

func (h *simHost) take() map[string]map[bundle.KeyType]*simKey {
	before := map[string]map[bundle.KeyType]*simKey{}
	for _, a := range h.addresses {
		before[a] = map[bundle.KeyType]*simKey{}
		for _, key := range h.types {
			before[a][key] = h.w.served[a+"/"+string(key)]
		}
	}
	return before
}

func (h *simHost) show(address string, keys map[bundle.KeyType]*simKey) {
	for key, k := range keys {
		if k != nil {
			h.w.serve(address+"/"+string(key), k)
		}
	}
}

// promote notes what is proven, and drops next keys that are used up.
func (h *simHost) promote() {
	var current []KeyOf
	changed := false
	for _, key := range h.types {
		k := h.current[key]
		current = append(current, k.of())
		changed = changed || h.state.Keys[key] == nil || h.state.Keys[key].Current != k.spki
	}
	h.state.Promote(current, h.w.instant())
	if changed {
		h.promoted++
		h.save()
	}
	for _, key := range h.types {
		if k := h.next[key]; k != nil && h.state.Keys[key].Current == k.spki {
			h.effect(func() { h.drop(key) })
		}
	}
}

// drop removes a stored next key.
func (h *simHost) drop(key bundle.KeyType) {
	if k := h.next[key]; k != nil && h.kept[k.spki] == nil {
		h.w.model.loses(h.w.now, k.spki)
	}
	delete(h.next, key)
}

// publish carries out the plan at the service.
func (h *simHost) publish() {
	for range 3 { // a plan that made keys is made again
		f := h.facts()
		if !h.mute && (h.settings.Mode == Publish || h.state.Leaving(h.settings)) {
			f.Listed = map[Place][]string{}
			for _, p := range h.state.Places(f.Places) {
				if h.w.cut != "" && p.Zone != h.w.cut+"." {
					continue // its servers know the zone below only
				}
				f.Listed[p] = slices.Clone(h.w.zoneOf(p).primary[p.Name])
			}
		}
		h.observe(f)
		h.plan = h.state.Plan(f)
		for _, key := range h.plan.Make {
			k := newSimKey(key)
			h.effect(func() { h.drop(key); h.next[key] = k })
			h.state.roll(key).Next, h.state.roll(key).Made = k.spki, f.At.At
			h.save()
		}
		for _, key := range h.plan.Free {
			h.effect(func() { h.drop(key) })
			h.state.roll(key).Next = ""
			h.save()
		}
		if len(h.plan.Make) > 0 {
			continue
		}
		for _, e := range h.plan.Remove {
			h.effect(func() {
				_ = h.w.update(e.Place, func(list []string) []string {
					return slices.DeleteFunc(list, func(r string) bool { return slices.Contains(e.Records, r) })
				})
			})
		}
		for _, e := range h.plan.Add {
			h.state.Claim(e, f.At.At)
		}
		h.save()
		for _, e := range h.plan.Add {
			h.effect(func() {
				_ = h.w.update(e.Place, func(list []string) []string { return slices.Concat(list, e.Records) })
			})
		}
		return
	}
}

// phase returns where a key type stands.
func (h *simHost) phase(key bundle.KeyType) Phase { return h.plan.Phases[key] }

// steady reports whether all key types are, with all they have proven.
func (h *simHost) steady() bool {
	for _, key := range h.types {
		if h.phase(key) != Steady || h.state.Keys[key] == nil || h.state.Keys[key].Asked != nil || len(h.state.Keys[key].Retired) > 0 {
			return false
		}
	}
	return true
}

// until runs passes when the plan says, or every hour, until something is so. It returns false after a time limit.
func (h *simHost) until(limit time.Duration, done func() bool) bool {
	for end := h.w.now + limit; h.w.now < end; {
		h.run()
		if done() {
			return true
		}
		h.sleep()
	}
	return false
}

// sleep waits for the next pass.
func (h *simHost) sleep() {
	pause := time.Hour
	if next := h.plan.Next; !next.IsZero() {
		pause = min(pause, max(next.Sub(h.w.instant().At), time.Second))
	}
	h.w.advance(h.w.now + pause)
}
