package fleet

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

const (
	stormName = "mx.example"
	stormCA   = "https://ca.example/directory"
)

// storm is a fleet in bad weather, in the time of a bubble.
type storm struct {
	t       testing.TB
	store   *model
	weather *weather
	ca      *fakeCA
	hosts   []*stormHost
	log     *slog.Logger

	mu       sync.Mutex
	backward []string
}

// stormHost is a host whose process is killed and started again. Its disk stays.
type stormHost struct {
	*storm
	name     string
	identity *seal.Identity
	all      []seal.Recipient
	disk     *memoryDisk

	weather    *weather // of its own in some tests
	woken      atomic.Int32
	sky        string         // how every call of a process that starts fails
	served     *bundle.Bundle // by the mail server
	generation int64
	passes     int
	danger     func(*bundle.Bundle) Danger // nil: none
	held       *Held                       // why the last order was not placed
}

func newStorm(t testing.TB, seed uint64, share float64, hosts int) *storm {
	s := &storm{t: t, store: newModel(), weather: newWeather(seed, share), log: slog.New(slog.DiscardHandler)}
	if *verbose {
		s.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	s.ca = &fakeCA{t: t, life: time.Hour, orders: map[string]*caOrder{}}
	var all []seal.Recipient
	for i := range hosts {
		identity := newIdentity(t)
		all = append(all, identity.Recipient())
		s.hosts = append(s.hosts, &stormHost{storm: s, name: fmt.Sprintf("mx%d", i), identity: identity, disk: newMemoryDisk(), weather: s.weather})
	}
	for _, h := range s.hosts {
		h.all = all
	}
	return s
}

// Flags of the long test: make fleet.
var (
	stormSeeds = flag.Int("fleet.seeds", 0, "how many storms, from fleet.seed on")
	stormSeed  = flag.Uint64("fleet.seed", 1, "the first storm")
)

var stormFaults = flag.Int("fleet.faults", 300, "faults of each storm")

var progress = flag.Bool("fleet.progress", false, "show how a storm gets on")

var verbose = flag.Bool("fleet.log", false, "show what hosts of the storm log")

// live runs processes of the host until ctx ends.
func (h *stormHost) live(ctx context.Context) {
	for ctx.Err() == nil {
		h.process(ctx)
		sleep(ctx, h.weather.between(time.Second, 4*time.Minute))
	}
}

// process runs one process, until it dies.
func (h *stormHost) process(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := h.disk.process()
	p.ended = cancel
	defer p.die()
	if !h.weather.calm.Load() && h.weather.between(0, 100) < 30 {
		p.dies = int(h.weather.between(1, 400)) // somewhere between two steps
		h.weather.mu.Lock()
		h.weather.injected["dies on the way"]++
		h.weather.mu.Unlock()
	}
	m, err := New(Settings{Name: "berlin", Host: h.name, Identity: h.identity, Recipients: h.all}, &faulty{h.store.open(), h.weather, p}, p, h.log.With("host", h.name))
	if err != nil {
		h.t.Error(err)
		return
	}
	wake := make(chan struct{}, 1)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		m.Run(ctx, func(names []string) {
			if len(names) > 0 {
				select {
				case wake <- struct{}{}:
				default:
				}
			}
		})
	})
	for ctx.Err() == nil {
		err := h.pass(ctx, m, p)
		if p.step() != nil {
			return
		}
		if err != nil && *verbose {
			h.log.Info("pass", "host", h.name, "error", err)
		}
		t := time.NewTimer(h.weather.between(2*time.Minute, 6*time.Minute))
		select {
		case <-t.C:
		case <-wake:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// pass is what package pass does with a fleet, in short.
func (h *stormHost) pass(ctx context.Context, m *Member, p *process) error {
	h.passes++
	book := state.New(m.Store())
	l := book.Lineage(stormName)
	m.Merge(ctx, stormName, Wish{Names: []string{stormName}, Keys: []bundle.KeyType{bundle.EC256}})
	if err := h.take(ctx, m, l); err != nil {
		return err
	}
	current, g := h.current(l)
	var err error
	if current == nil || time.Until(current.NotAfter()) < h.ca.life/3 {
		err = h.order(ctx, m, book, l, p)
		current, g = h.current(l)
	}
	if current == nil || p.step() != nil {
		return err
	}
	h.deploy(m, current)
	m.Note(stormName, Deployed{Keys: map[string]Deployment{"ec256": {Serial: current.Serial(), NotAfter: current.NotAfter(), Served: h.served.Serial()}},
		OnDisk: []string{current.SPKI()}, Serving: []string{h.served.SPKI()}, Certain: true})
	return errors.Join(err, m.Offer(ctx, nil, stormName, g, current))
}

func (h *stormHost) current(l *state.Lineage) (*bundle.Bundle, state.Generation) {
	record, _, err := l.Load()
	if err != nil || record.Slot(bundle.EC256).Current == "" {
		return nil, state.Generation{}
	}
	id := record.Slot(bundle.EC256).Current
	g, err := l.Generation(id)
	if err != nil {
		return nil, g
	}
	b, err := l.Bundle(id)
	if err != nil {
		return nil, g
	}
	return b, g
}

// keep stores a bundle and makes it the current one.
func (h *stormHost) keep(l *state.Lineage, b *bundle.Bundle, order string) error {
	g, err := l.Add(b, []string{stormName}, stormCA, order, time.Now())
	if err != nil {
		return err
	}
	record, _, err := l.Load()
	if err != nil {
		return err
	}
	record.Slot(bundle.EC256).Issued(g.ID, time.Now())
	return l.Save(record)
}

func (h *stormHost) take(ctx context.Context, m *Member, l *state.Lineage) error {
	s, err := m.Take(ctx, stormName, bundle.EC256)
	if err != nil || s == nil {
		return nil //nolint:nilerr // no failure of a pass
	}
	if err := h.keep(l, s.Bundle, s.Order); err != nil {
		return err
	}
	return m.Taken(stormName, bundle.EC256, s)
}

func (h *stormHost) order(ctx context.Context, m *Member, book *state.Book, l *state.Lineage, p *process) error {
	wait, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	danger := Danger{}
	if current, _ := h.current(l); h.danger != nil {
		danger = h.danger(current)
	}
	lead, err := m.Lead(wait, stormName, danger)
	if h.held, _ = errors.AsType[*Held](err); err != nil {
		return err
	}
	defer lead.Release()
	if err := h.take(ctx, m, l); err != nil {
		return err
	}
	if current, _ := h.current(l); current != nil && time.Until(current.NotAfter()) >= h.ca.life/3 {
		return nil
	}
	if err := book.ChangeUsage(ctx, stormCA, func(u *state.Usage) error {
		u.Ledger.Place(time.Now(), schedule.Purchase{Names: []string{stormName}, Key: "ec256"})
		return nil
	}); err != nil {
		return err
	}
	order, ok, err := l.Order(bundle.EC256)
	if err != nil {
		return err
	}
	if !ok {
		order = orderFor(h.t, stormName)
		order.URL, order.Created = "", time.Now().UTC()
		if err := l.SaveOrder(order); err != nil {
			return err
		}
	}
	time.Sleep(h.weather.between(time.Millisecond, 20*time.Second)) // the CA
	if order.URL == "" {
		if p.step() != nil {
			return errDead
		}
		placed := h.ca.order(stormName, h.name, h.leads(lead))
		order.URL = placed.url
		err := l.SaveOrder(order)
		h.ca.stored(placed, err)
		if err != nil {
			return err
		}
	}
	time.Sleep(h.weather.between(time.Millisecond, 5*time.Second))
	order.Finalized = true
	if err := l.SaveOrder(order); err != nil {
		return err
	}
	if p.step() != nil {
		return errDead
	}
	b, err := h.ca.finish(order.URL, order.Key)
	if errors.Is(err, errInvalidOrder) {
		return errors.Join(err, l.DropOrder(bundle.EC256))
	}
	if err != nil {
		return err
	}
	if err := h.keep(l, b, order.URL); err != nil {
		return err
	}
	if err := l.DropOrder(bundle.EC256); err != nil {
		return err
	}
	_, g := h.current(l)
	return m.Offer(ctx, lead, stormName, g, b)
}

// leads reports whether the store says that this host leads.
func (h *stormHost) leads(lead *Lead) bool {
	if lead.Alone {
		return true
	}
	store := lead.store.(*faulty).Shared.(*modelStore)
	store.mu.Lock()
	defer store.mu.Unlock()
	store.expire()
	for place, made := range store.held {
		if store.keys[place].made == made {
			return true
		}
	}
	return false
}

// deploy makes the mail server serve a certificate, and checks that nothing goes backward.
func (h *stormHost) deploy(m *Member, b *bundle.Bundle) {
	generation := m.mark(bundlePlace(stormName, bundle.EC256)).Generation
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.served != nil && b.NotAfter().Before(h.served.NotAfter()) {
		h.backward = append(h.backward, fmt.Sprintf("%s: notAfter %s after %s", h.name, b.NotAfter(), h.served.NotAfter()))
	}
	if generation < h.generation {
		h.backward = append(h.backward, fmt.Sprintf("%s: generation %d after %d", h.name, generation, h.generation))
	}
	h.served, h.generation = b, generation
}

// rage lets hosts live until so many faults have come, and then some calm days.
func (s *storm) rage(faults int, disasters bool) {
	ctx, cancel := context.WithCancel(context.Background())
	var living sync.WaitGroup
	for _, h := range s.hosts {
		living.Go(func() { h.live(ctx) })
	}
	old := s.store.snapshot()
	for hour := 0; s.weather.total() < faults && hour < 10000; hour++ {
		time.Sleep(time.Hour)
		if *progress {
			fmt.Fprintln(os.Stderr, "hour", hour, "faults", s.weather.total(), "calls", s.store.asked, "orders", s.ca.placed)
		}
		if *verbose {
			s.log.Info("storm", "hour", hour, "faults", s.weather.total(), "calls", s.store.asked, "orders", s.ca.placed)
		}
		if !disasters {
			continue
		}
		switch s.weather.between(0, 40) {
		case 1:
			s.store.wipe()
			s.ca.lostAll()
		case 2:
			s.store.restore(old)
			s.ca.lostAll()
		case 3, 4, 5:
			s.store.compact()
		case 6, 7, 8, 9:
			old = s.store.snapshot()
		}
	}
	s.weather.calm.Store(true)
	time.Sleep(calm())
	cancel()
	living.Wait()
}

// calm is how long the weather is good before the check: longer than a certificate lasts.
func calm() time.Duration {
	if raceDetector {
		return 75 * time.Minute
	}
	return 4 * time.Hour
}

// check checks what must be so after a storm.
func (s *storm) check(t *testing.T) (problems []string) {
	problems = append(s.ca.violations, s.backward...)
	last := s.hosts[0].served
	for _, h := range s.hosts {
		if h.served == nil || last == nil || h.served.Serial() != last.Serial() {
			problems = append(problems, h.name+" does not serve what the others serve")
		} else if time.Until(h.served.NotAfter()) < s.ca.life/4 {
			problems = append(problems, h.name+" serves an old certificate")
		}
	}
	passes := 0
	for _, h := range s.hosts {
		passes += h.passes
	}
	t.Logf("%d faults (%v) in %d passes; %d orders, of which %d may be duplicates; %d calls of the store", s.weather.total(), s.weather.injected, passes, s.ca.placed, s.ca.duplicates, s.store.asked)
	return problems
}

// In a storm of faults, hosts order one at a time, never go backward, and end with the same certificate.
func TestStorm(t *testing.T) {
	seeds := []uint64{1, 2}
	if *stormSeeds > 0 {
		seeds = nil
		for i := range *stormSeeds {
			seeds = append(seeds, *stormSeed+uint64(i))
		}
	}
	faults, enough := *stormFaults, 500
	if raceDetector { // which makes cryptography twenty times as slow; packaging/test.sh runs the storm without it
		seeds, faults, enough = seeds[:1], 60, 60
	}
	total := 0
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStorm(t, seed, 0.03, 3)
				s.rage(faults, true)
				for _, problem := range s.check(t) {
					t.Error(problem)
				}
				total += s.weather.total()
			})
		})
	}
	if total < enough && !t.Failed() {
		t.Errorf("only %d faults", total)
	}
}

// Without the fence the same storm must show that something is wrong: otherwise the check would see nothing. Hosts are stopped for longer than
// their right to order lasts, and go on.
func TestStormWithoutAFence(t *testing.T) {
	faults, stores := 40, []bool{true, false}
	if raceDetector {
		faults, stores = 20, stores[:1]
	}
	for _, unfenced := range stores {
		found := 0
		for seed := uint64(1); seed <= 8 && (found == 0 || !unfenced); seed++ {
			synctest.Test(t, func(t *testing.T) {
				s := newStorm(t, seed, 0.05, 3)
				s.weather.kinds, s.store.unfenced = []string{"stalls"}, unfenced
				s.rage(faults, false)
				for _, problem := range s.check(t) {
					t.Log(problem)
					found++
				}
			})
			if !unfenced && seed == 2 {
				break
			}
		}
		if unfenced != (found > 0) {
			t.Errorf("a store without a fence (%t): %d problems", unfenced, found)
		}
	}
}
