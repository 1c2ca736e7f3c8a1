package dane

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"mxcert/acme/resolve"
	"mxcert/acme/state"
)

// A simulated world for plans: zones with several servers that lag, lose data and fall silent, a service that takes updates or does not, and
// mail servers with several addresses. Its time is compressed, and it reports every change to a model that judges by itself.

// simWorld is true time, DNS, and what is served.
type simWorld struct {
	now   time.Duration // true time since the start
	wall  time.Duration // how far the host's clock is ahead
	boot  int           // which start of the host
	since time.Duration // when it was

	zones []*simZone
	model *model

	// served has the key of each address and key type. An address that is deaf does not answer the host.
	served map[string]*simKey
	deaf   map[string]bool

	alter func(*View) // changes what looks find; nil: nothing
	cut   string      // a zone that was cut off its parent
}

type simZone struct {
	name    string
	ttl     time.Duration
	primary map[string][]string // records by name
	servers []*simServer
	fault   updateFault
	faults  int // how many updates it spoils; -1: all
}

type simServer struct {
	host     string
	lag      time.Duration
	copied   map[string][]string
	changes  []simCopy // on their way
	silent   bool
	unsigned bool
}

type simCopy struct {
	at      time.Duration
	records map[string][]string
}

// updateFault is what goes wrong with an update.
type updateFault int

const (
	updateWorks    updateFault = iota
	updateLost                 // it never arrives
	updateRefused              // the service says no
	updateNotDone              // the service says yes, and does nothing
	updateNoAnswer             // it is done, and the answer is lost
)

var errUpdate = errors.New("the update failed")

func newSimWorld() *simWorld {
	return &simWorld{model: newModel(), served: map[string]*simKey{}, deaf: map[string]bool{}}
}

// zone makes a zone with servers of different lags.
func (w *simWorld) zone(name string, ttl time.Duration, lags ...time.Duration) *simZone {
	z := &simZone{name: name, ttl: ttl, primary: map[string][]string{}}
	for i, lag := range lags {
		z.servers = append(z.servers, &simServer{host: fmt.Sprintf("ns%d.%s", i+1, name), lag: lag, copied: map[string][]string{}})
	}
	w.zones = append(w.zones, z)
	return z
}

// instant is what the host knows about time.
func (w *simWorld) instant() state.Instant {
	up := w.now - w.since + time.Minute
	return state.Instant{At: simStart.Add(w.now + w.wall), Boot: fmt.Sprint(w.boot), Up: up, Awake: up}
}

var simStart = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// advance lets true time pass, and changes arrive.
func (w *simWorld) advance(to time.Duration) {
	for {
		next := to
		for _, z := range w.zones {
			for _, s := range z.servers {
				if len(s.changes) > 0 {
					next = min(next, max(s.changes[0].at, w.now))
				}
			}
		}
		w.now = next
		w.deliver()
		if next == to {
			return
		}
	}
}

func (w *simWorld) deliver() {
	for _, z := range w.zones {
		for _, s := range z.servers {
			for len(s.changes) > 0 && s.changes[0].at <= w.now {
				s.copied = s.changes[0].records
				s.changes = s.changes[1:]
				w.tell(z, s)
			}
		}
	}
}

// tell reports to the model what a server gives.
func (w *simWorld) tell(z *simZone, s *simServer) {
	if s.unsigned {
		return // no sender takes that for an answer
	}
	for name := range z.primary {
		w.model.gives(w.now, s.host, name, s.copied[name], z.ttl)
	}
}

// edit changes the primary, and sends the zone on its way to the servers.
func (w *simWorld) edit(z *simZone, name string, change func([]string) []string) {
	records := change(slices.Clone(z.primary[name]))
	slices.Sort(records)
	z.primary[name] = slices.Compact(records)
	w.model.holds(w.now, name, z.primary[name])
	for _, s := range z.servers {
		copied := map[string][]string{}
		for n, list := range z.primary {
			copied[n] = slices.Clone(list)
		}
		at := w.now + s.lag
		if n := len(s.changes); n > 0 {
			at = max(at, s.changes[n-1].at)
		}
		s.changes = append(s.changes, simCopy{at, copied})
	}
	w.deliver()
}

func (w *simWorld) zoneOf(p Place) *simZone {
	i := slices.IndexFunc(w.zones, func(z *simZone) bool { return z.name+"." == p.Zone })
	return w.zones[i]
}

// update is what a publisher does.
func (w *simWorld) update(p Place, change func([]string) []string) error {
	z := w.zoneOf(p)
	fault := z.fault
	if z.faults == 0 {
		fault = updateWorks
	} else if z.faults > 0 && fault != updateWorks {
		z.faults--
	}
	switch fault {
	case updateLost, updateRefused:
		return errUpdate
	case updateNotDone:
		return nil
	}
	w.edit(z, p.Name, change)
	if fault == updateNoAnswer {
		return errUpdate
	}
	return nil
}

func (w *simWorld) place(o Owner) Place {
	for _, z := range w.zones {
		if w.cut != "" && z.name != w.cut {
			continue
		}
		if o.Host == z.name || len(o.Host) > len(z.name) && o.Host[len(o.Host)-len(z.name)-1:] == "."+z.name {
			return Place{Zone: z.name + ".", Name: o.Name() + ".", Primary: "ns1." + z.name}
		}
	}
	return Place{}
}

// look is what dane.Look would find.
func (w *simWorld) look(o Owner) View {
	place := w.place(o)
	z := w.zoneOf(place)
	v := View{Owner: o, At: w.instant()}
	v.Recursive.Answer = resolve.Answer{Name: o.Name(), Type: "TLSA", State: resolve.Secure, Validator: "127.0.0.1:53", Final: o.Name(), TTL: z.ttl}
	step := Step{Name: place.Name}
	step.Served.Zone = place.Zone
	step.Served.Keys = resolve.Answer{State: resolve.Secure, Validator: "127.0.0.1:53"}
	for i, s := range z.servers {
		server := resolve.Server{Host: s.host, Address: fmt.Sprintf("192.0.2.%d:53", i+1)}
		a := resolve.Authoritative[resolve.TLSA]{Server: server, TTL: z.ttl, Signature: resolve.Signed, Since: v.At.At.Add(-time.Hour), Until: v.At.At.Add(7 * 24 * time.Hour)}
		if s.silent {
			a = resolve.Authoritative[resolve.TLSA]{Server: server, Fault: "it does not answer", Silent: true}
		} else {
			a.Records = parsed(s.copied[place.Name])
			if s.unsigned {
				a.Signature, a.Since, a.Until = resolve.Unsigned, time.Time{}, time.Time{}
			} else if i == 0 {
				v.Recursive.Records = a.Records
			}
		}
		step.Served.Servers = append(step.Served.Servers, server)
		step.Served.Answers = append(step.Served.Answers, a)
		step.Ignored = append(step.Ignored, false)
	}
	v.Steps = []Step{step}
	if w.alter != nil {
		w.alter(&v)
	}
	return v
}

// serve changes what an address shows.
func (w *simWorld) serve(address string, k *simKey) {
	w.served[address] = k
	w.model.serves(w.now, address, k)
}
