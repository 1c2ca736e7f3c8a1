package ct_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/acme/ct"
	"mxcert/acme/ct/cttest"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

// A thousand names of ten domains are ten questions; pages are read to their end, and the next round has one request for each domain.
func TestThousandNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{name: "certspotter", pace: 40 * time.Second, size: 50}
		w := newWorld(t, s)
		clear(w.names)
		for i := range 1000 {
			name := fmt.Sprintf("mx%d.example%d.org", i, i%10)
			w.names.Add(fmt.Sprint("c", i), []string{name})
			e, _ := w.issue(cttest.Key(t), name)
			s.list = append(s.list, e)
		}
		w.begin()
		w.run(5 * time.Hour)
		questions := slices.Compact(slices.Sorted(slices.Values(s.asked)))
		if len(questions) != 10 || len(s.asked) != 10*21 { // each domain has the whole list, in 20 pages, and an empty one at the end
			t.Errorf("%d requests for %s", len(s.asked), questions)
		}
		if m := w.watch.Memory(); len(m.Learned) != 1000 || len(m.Found) != 1000 || len(m.Unknown) > 0 {
			t.Errorf("%d names learned, %d certificates; %d unknown", len(m.Learned), len(m.Found), len(m.Unknown))
		}
		s.asked = nil
		alien, _ := w.issue(cttest.Key(t), "mx500.example0.org")
		s.list = append(s.list, alien)
		w.run(7 * time.Hour)
		if told := w.told("c500"); !strings.Contains(told, alien.Serial) || len(s.asked) != 20 {
			t.Errorf("told %q after %d requests", told, len(s.asked))
		}
		for i := 1; i < len(s.at); i++ {
			if s.at[i].Sub(s.at[i-1]) < s.pace {
				t.Fatalf("two requests within %s", s.at[i].Sub(s.at[i-1]))
			}
		}
	})
}

// However much there is to remember, the state reads it back: a certificate that is unknown must not become one that was learned.
func TestMemoryHasAnEnd(t *testing.T) {
	store, err := disk.Open(t.TempDir() + "/state")
	if err != nil {
		t.Fatal(err)
	}
	book, m := state.New(store), &ct.Memory{Learned: map[string]int64{"mx.example.org": 1}}
	until := time.Now().AddDate(0, 3, 0)
	for i := range 6000 {
		for kind, list := range []*[]string{&m.Issued, &m.Found, &m.Accepted} {
			*list = append(*list, fmt.Sprintf("%036x %064x %d", i, kind, until.Unix()+int64(i)))
		}
	}
	for i := range 200 {
		e := ct.Entry{Serial: fmt.Sprintf("%036x", 1<<40+i), Issuer: strings.Repeat("x", 200), NotAfter: until, Source: "crtsh", Link: strings.Repeat("x", 200)}
		for n := range 20 {
			e.Names = append(e.Names, fmt.Sprintf("%d.%s.mx.example.org", n, strings.Repeat("x", 230)))
		}
		m.Unknown = append(m.Unknown, ct.Unknown{Entry: e, Seen: time.Now()})
	}
	if err := m.Store(book); err != nil {
		t.Fatal(err)
	}
	if m, err = ct.Read(book); err != nil || len(m.Unknown) != 200 || len(m.Learned) != 1 {
		t.Fatalf("%d unknown, %d names learned: %v", len(m.Unknown), len(m.Learned), err)
	}
	m.Unknown = m.Unknown[:10]
	for i := range 6000 {
		m.Found = append(m.Found, fmt.Sprintf("%036x %064x %d", i, 1, until.Unix()))
		m.Accepted = append(m.Accepted, fmt.Sprintf("%036x %064x %d", i, 2, until.Unix()))
	}
	if err := m.Store(book); err != nil {
		t.Fatal(err)
	}
	if m, err = ct.Read(book); err != nil || len(m.Accepted) < 6000 || len(m.Found) > 4000 || len(m.Unknown) != 10 {
		t.Errorf("%d accepted, %d learned, %d unknown: %v", len(m.Accepted), len(m.Found), len(m.Unknown), err)
	}
}

// A thousand domains of their own take longer than the interval: none is left out, the requests stay below what is free, and what is
// remembered stays small.
func TestThousandDomains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{name: "certspotter", pace: 40 * time.Second}
		w := newWorld(t, s)
		clear(w.names)
		for i := range 1000 {
			w.names.Add(fmt.Sprint("c", i), []string{fmt.Sprintf("mx.example%d.org", i)})
		}
		learned := func(m *ct.Memory) {
			for name := range w.names {
				m.Learned[name] = time.Now().Unix()
			}
		}
		if _, err := ct.Update(t.Context(), w.book, learned); err != nil {
			t.Fatal(err)
		}
		w.begin()
		w.run(12 * time.Hour)
		counts := map[string]int{}
		for _, q := range s.asked {
			counts[q]++
		}
		if len(counts) != 1000 || len(s.asked) > 12*90+1 {
			t.Errorf("%d of 1000 names were asked about, in %d requests", len(counts), len(s.asked))
		}
		text, err := json.Marshal(w.watch.Memory())
		if err != nil || len(text) > 200_000 {
			t.Errorf("%v, %d bytes are remembered", err, len(text))
		}
	})
}

// BenchmarkRound is a whole round over a thousand names, without the waits: what the daemon computes and stores in some hours.
func BenchmarkRound(b *testing.B) {
	for name, domains := range map[string]int{"10 domains": 10, "1000 domains": 1000} {
		b.Run(name, func(b *testing.B) {
			ca := cttest.NewCA(b, "CA")
			c, _ := ca.Issue(b, cttest.Template(b, time.Now().Add(month), "mx1.example1.org"), cttest.Key(b).Public())
			one := ct.FromCertificate(c)
			for b.Loop() {
				store, err := disk.Open(b.TempDir() + "/state")
				if err != nil {
					b.Fatal(err)
				}
				s := &shelf{name: "certspotter", list: []ct.Entry{one}}
				w := &ct.Watch{Sources: []ct.Source{s}, Names: ct.Names{}, Interval: 6 * time.Hour, Book: state.New(store), Ours: ct.NewOurs}
				for i := range 1000 {
					w.Names.Add(fmt.Sprint("c", i), []string{fmt.Sprintf("mx%d.example%d.org", i, i%domains)})
				}
				if err := w.Begin(b.Context()); err != nil {
					b.Fatal(err)
				}
				for next := time.Now(); time.Until(next) < time.Hour; {
					if next, err = w.Step(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(s.asked)), "requests/op")
			}
		})
	}
}
