package pass

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
	"mxcert/deploy/starttls"
)

// moment is one look at the zone, and the handshakes after it. On a busy machine each of them may take seconds, so it has both its ends.
type moment struct {
	asked   time.Time // before the zone was asked
	records []string
	shown   []shown
}

// shown is the key that the server has shown in a handshake.
type shown struct {
	until  time.Time // the end of the handshake
	record string
}

// watchI4 records what the zone has and what the server serves, until stop is called, which then judges. On a busy machine it goes on until there
// is enough to judge.
func (h *daneHost) watchI4() (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	const enough = 50
	var mu sync.Mutex
	var moments []moment
	var done sync.WaitGroup
	judge := func() (bad []string, judged int) {
		mu.Lock()
		defer mu.Unlock()
		return breaches(moments, h.ttl)
	}
	resolver := resolve.New(h.NameServers())
	done.Go(func() {
		for ctx.Err() == nil {
			if m, ok := h.moment(ctx, resolver); ok {
				mu.Lock()
				moments = append(moments, m)
				mu.Unlock()
			}
			time.Sleep(40 * time.Millisecond)
		}
	})
	return func() {
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if _, judged := judge(); judged >= enough {
				break
			}
		}
		cancel()
		done.Wait()
		bad, judged := judge()
		for _, text := range bad[:min(len(bad), 5)] {
			h.t.Error(text)
		}
		if judged < enough {
			h.t.Errorf("only %d handshakes of a sender that has records were seen", judged)
		}
	}
}

// moment looks once; false if nothing is known of the records.
func (h *daneHost) moment(ctx context.Context, resolver *resolve.Resolver) (m moment, ok bool) {
	m.asked = time.Now()
	set := resolver.FreshTLSA(ctx, h.owner())
	for _, r := range set.Records {
		m.records = append(m.records, r.String())
	}
	for _, key := range []starttls.KeyType{starttls.ECDSA, starttls.RSA} {
		r, err := starttls.Handshake(ctx, starttls.Request{Address: h.SMTP.Address(), ServerName: "mx.example.org", KeyType: key})
		if err == nil {
			m.shown = append(m.shown, shown{time.Now(), dane.Record(bundle.SPKIOf(r.Chain[0].RawSubjectPublicKeyInfo)).String()})
		}
	}
	return m, ctx.Err() == nil && (set.Err == nil || set.Denied())
}

// breaches lists the handshakes in which a sender met a key that is not in the records that it may have had: who asked when a look began has its
// answer for the TTL after that at least, and a handshake that had ended by then was within it. How long looks and handshakes take can hide a
// breach, but never invents one. judged is how many handshakes were compared with records.
func breaches(moments []moment, ttl time.Duration) (bad []string, judged int) {
	for i, given := range moments {
		if len(given.records) == 0 {
			continue
		}
		for _, later := range moments[i:] {
			if later.asked.Sub(given.asked) > ttl {
				break
			}
			for _, s := range later.shown {
				if s.until.Sub(given.asked) > ttl {
					continue
				}
				judged++
				if !slices.Contains(given.records, s.record) {
					bad = append(bad, fmt.Sprintf("%s is shown at %s, and a sender may hold %q of %s", s.record, s.until, given.records, given.asked))
				}
			}
		}
	}
	return bad, judged
}

// The judge sees a key that came too early, and takes no slow look for one.
func TestBreaches(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	old := moment{asked: at(0), records: []string{"old"}, shown: []shown{{at(0.1), "old"}}}
	tests := []struct {
		name   string
		later  moment
		bad    int
		judged int
	}{
		{"the key is held", moment{at(1.9), []string{"old", "new"}, []shown{{at(1.95), "old"}}}, 0, 3},
		{"a key that the sender does not know", moment{at(1.9), []string{"old", "new"}, []shown{{at(1.95), "new"}}}, 1, 3},
		{"the look began in time, and took long", moment{at(1.9), []string{"old", "new"}, []shown{{at(2.5), "new"}}}, 0, 2},
		{"after the TTL", moment{at(2.1), []string{"old", "new"}, []shown{{at(2.2), "new"}}}, 0, 2},
		{"its own look lacks it", moment{at(3), []string{"old"}, []shown{{at(3.1), "new"}}}, 1, 2},
		{"no records", moment{at(3), nil, []shown{{at(3.1), "new"}}}, 0, 1},
	}
	for _, tt := range tests {
		if bad, judged := breaches([]moment{old, tt.later}, 2*time.Second); len(bad) != tt.bad || judged != tt.judged {
			t.Errorf("%s: %q, %d judged, want %d of %d", tt.name, bad, judged, tt.bad, tt.judged)
		}
	}
}
