package dnsprovider

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-acme/lego/v4/challenge"
	"github.com/go-acme/lego/v4/challenge/dns01"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// TestResolversTakeTurns: the same servers together, others one after another, nobody for ever.
func TestResolversTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var used []string
		inside := 0
		r := &resolvers{use: func(l lookup) {
			if inside != 0 {
				t.Error("the servers change under somebody's feet")
			}
			used = append(used, l.servers[0])
		}}
		enter := func(ctx context.Context, server string) (func(), error) {
			leave, err := r.enter(ctx, lookup{servers: []string{server}})
			if err != nil {
				return nil, err
			}
			inside++
			return func() { inside--; leave() }, nil
		}
		one, _ := enter(t.Context(), "a")
		two, _ := enter(t.Context(), "a")
		started := make(chan string, 10)
		release := make(chan struct{})
		for _, server := range []string{"b", "a", "b"} { // the second a must not get in before b
			go func() {
				leave, err := r.enter(t.Context(), lookup{servers: []string{server}})
				if err != nil {
					t.Error(err)
					return
				}
				started <- server
				<-release
				leave()
			}()
			synctest.Wait()
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := enter(impatient, "c"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got in: %v", err)
		}
		if len(started) != 0 {
			t.Fatalf("%d got in beside a", len(started))
		}
		one()
		two()
		synctest.Wait()
		if len(started) != 2 || <-started != "b" || <-started != "b" {
			t.Error("it was b's turn")
		}
		close(release)
		synctest.Wait()
		if len(started) != 1 || <-started != "a" || fmt.Sprint(used) != "[a b a]" {
			t.Errorf("used %v", used)
		}
	})
}

// TestLeavingTheQueue lets in whom the one who left kept out.
func TestLeavingTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resolvers{use: func(lookup) {}}
		if _, err := r.enter(t.Context(), lookup{servers: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
		impatient, cancel := context.WithCancel(t.Context())
		go func() { _, _ = r.enter(impatient, lookup{servers: []string{"b"}}) }()
		synctest.Wait()
		in := false
		go func() {
			_, err := r.enter(t.Context(), lookup{servers: []string{"a"}})
			in = err == nil
		}()
		synctest.Wait()
		if in {
			t.Error("it got in before b")
		}
		cancel()
		synctest.Wait()
		if !in {
			t.Error("b has left and a is still kept out")
		}
	})
}

// TestLeavingAtTheDoor: who is let in and gives up at the same moment is not counted as inside for ever.
func TestLeavingAtTheDoor(t *testing.T) {
	r := &resolvers{use: func(lookup) {}}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	given := 0
	for range 200 {
		if leave, err := r.enter(late, lookup{servers: []string{"a"}}); err == nil {
			leave()
		} else {
			given++
		}
	}
	if r.inside != 0 || given == 0 {
		t.Errorf("%d are inside, %d gave up", r.inside, given)
	}
}

// finder is a provider that does what most of lego's do first: find the zone of a name.
type finder struct {
	zone  atomic.Pointer[string]
	calls *atomic.Int32
}

func (f *finder) Present(domain, _, keyAuth string) error {
	zone, err := dns01.FindZoneByFqdn(dns01.GetChallengeInfo(domain, keyAuth).EffectiveFQDN)
	f.zone.Store(&zone)
	f.calls.Add(1)
	return err
}

func (f *finder) CleanUp(string, string, string) error { return nil }

// TestLegoAndWildcards: where the place is known, a provider of lego's uses it, although a wildcard has a CNAME there. Where it is an alias
// that lego cannot be told, lego follows it.
func TestLegoAndWildcards(t *testing.T) {
	w := nameserver.New()
	for apex, records := range map[string][]string{
		"example.org":    {"@ NS ns1", "ns1 A 127.0.0.1", "* CNAME www.hoster.example.", "_acme-challenge.odd CNAME odd.hoster.example."},
		"hoster.example": {"@ NS ns1.example.org."},
	} {
		if err := w.AddZone(apex, records...); err != nil {
			t.Fatal(err)
		}
	}
	s, err := w.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	resolver := resolve.New([]string{s.Address()})
	for domain, zone := range map[string]string{"imap.example.org": "example.org.", "example.org": "example.org.", "odd.example.org": "hoster.example."} {
		place, err := resolver.Locate(t.Context(), "_acme-challenge."+domain)
		if err != nil {
			t.Fatal(err)
		}
		f := &finder{calls: new(atomic.Int32)}
		s, err := newLego("finder", Description{}, func() (challenge.Provider, error) { return f, nil }, nil, resolver)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Present(t.Context(), []TXT{{Place: place, Domain: domain, Token: "t", KeyAuth: "k"}}); err != nil || *f.zone.Load() != zone || place.Zone != zone {
			t.Errorf("%s: the place is %+v, lego writes into %s, %v", domain, place, *f.zone.Load(), err)
		}
	}
}

// TestTwoRoomsOfNameServers: a name is in another zone, depending on whom one asks. Each certificate's own resolvers
// are asked, however many work at once.
func TestTwoRoomsOfNameServers(t *testing.T) {
	servers, want := []string{}, []string{"example.org.", "mx.example.org."}
	for _, apex := range want {
		w := nameserver.New()
		if err := w.AddZone(apex, "@ NS ns1", "ns1 A 127.0.0.1"); err != nil {
			t.Fatal(err)
		}
		s, err := w.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		servers = append(servers, s.Address())
	}
	var wait sync.WaitGroup
	var calls atomic.Int32
	for i := range 20 {
		wait.Go(func() {
			room := i % 2
			f := &finder{calls: &calls}
			s, err := newLego("finder", Description{}, func() (challenge.Provider, error) { return f, nil }, nil, resolve.New([]string{servers[room]}))
			if err != nil {
				t.Error(err)
				return
			}
			r := at("_acme-challenge.mx.example.org.")
			r.Zone = fmt.Sprint("zone", i, ".") // else the zone makes them wait for each other
			for range 5 {
				if err := s.Present(t.Context(), []TXT{r}); err != nil {
					t.Error(err)
				} else if got := *f.zone.Load(); got != want[room] {
					t.Errorf("room %d finds %s", room, got)
				}
			}
		})
	}
	wait.Wait()
	if calls.Load() != 100 {
		t.Errorf("%d calls", calls.Load())
	}
}
