package ct_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/ct"
	"mxcert/acme/ct/cttest"
	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

// shelf is a source in memory.
type shelf struct {
	name  string
	pace  time.Duration
	list  []ct.Entry
	err   error
	bare  bool // it does not know keys
	asked []string
	at    []time.Time
	size  int
}

func (s *shelf) Name() string                   { return s.name }
func (s *shelf) Pace(ct.Question) time.Duration { return s.pace }

func (s *shelf) Since(_ context.Context, q ct.Question, cursor string) (ct.Page, error) {
	s.asked, s.at = append(s.asked, q.String()), append(s.at, time.Now())
	if s.err != nil {
		return ct.Page{}, s.err
	}
	first := 0
	_, _ = fmt.Sscan(cursor, &first)
	size := s.size
	if size == 0 {
		size = 100
	}
	last := min(first+size, len(s.list))
	page := ct.Page{Cursor: fmt.Sprint(last), More: last > first}
	for _, e := range s.list[first:last] {
		if s.bare {
			e.SPKI = ""
		}
		e.Source = s.name
		page.Entries = append(page.Entries, e)
	}
	return page, nil
}

// world is a watch with a state.
type world struct {
	t       *testing.T
	ca      *cttest.CA
	book    *state.Book
	watch   *ct.Watch
	files   []string
	sources []ct.Source
	names   ct.Names
}

func newWorld(t *testing.T, sources ...ct.Source) *world {
	store, err := disk.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ca: cttest.NewCA(t, "CA"), book: state.New(store), sources: sources, names: ct.Names{}}
	w.names.Add("mx", []string{"mx.example.org"})
	return w
}

// begin starts a watch, as a daemon does with a configuration.
func (w *world) begin() {
	w.t.Helper()
	w.watch = &ct.Watch{Sources: w.sources, Names: w.names, Interval: 6 * time.Hour, Book: w.book, Ours: func() *ct.Ours {
		ours, err := ct.Collect(w.book, w.files)
		if err != nil {
			w.t.Log(err)
		}
		return ours
	}}
	if err := w.watch.Begin(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	end := time.Now().Add(d)
	for {
		next, err := w.watch.Step(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if next.After(end) {
			time.Sleep(time.Until(end))
			return
		}
		time.Sleep(time.Until(next))
	}
}

// told returns the findings about a certificate, or about the host, in short.
func (w *world) told(certificate string) string {
	var list []string
	for _, f := range w.watch.Memory().Findings(w.watch.Names, ct.CAA(w.book, nil), w.sources, time.Now())[certificate] {
		list = append(list, f.ID+" "+string(f.Severity)+" "+f.Subject)
	}
	return strings.Join(list, "; ")
}

func (w *world) issue(key *ecdsa.PrivateKey, names ...string) (entry ct.Entry, c *x509.Certificate) {
	c, _ = w.ca.Issue(w.t, cttest.Template(w.t, time.Now().Add(3*month), names...), key.Public())
	return ct.FromCertificate(c), c
}

// lives changes how long an entry is valid.
func lives(e ct.Entry, d time.Duration) ct.Entry {
	e.NotAfter = time.Now().Add(d)
	return e
}

func pkcs8(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// store adds a certificate to the state as ours.
func (w *world) store(key *ecdsa.PrivateKey, c *x509.Certificate) {
	w.t.Helper()
	b, err := bundle.New(append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.ca.Certificate.Raw})...), key)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.book.Lineage("mx").Add(b, c.DNSNames, "https://ca.example/directory", "", time.Now()); err != nil {
		w.t.Fatal(err)
	}
}

func TestWatchLearnsThenAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{name: "certspotter", pace: 40 * time.Second, size: 2}
		w := newWorld(t, s)
		for range 5 {
			e, _ := w.issue(cttest.Key(t), "mx.example.org")
			s.list = append(s.list, e)
		}
		w.begin()
		w.run(time.Hour)
		if told := w.told("mx"); told != "" || len(w.watch.Memory().Found) != 5 {
			t.Errorf("the first look tells %s; it has learned %d", told, len(w.watch.Memory().Found))
		}
		key := cttest.Key(t)
		ours, c := w.issue(key, "mx.example.org")
		w.store(key, c)
		next, rehearsal := cttest.Key(t), cttest.Key(t)
		if err := w.book.Lineage("mx").SaveOrder(state.Order{KeyType: bundle.EC256, URL: "https://ca.example/order/1", Key: string(pkcs8(t, next))}); err != nil {
			t.Fatal(err)
		}
		flying, _ := w.issue(next, "mx.example.org")
		staged, _ := w.issue(rehearsal, "mx.example.org")
		staged.Issuer = "CN=(STAGING) Radical Rhino"
		other, _ := w.issue(cttest.Key(t), "www.example.org")
		s.list = append(s.list, ours, flying, staged, other)
		w.run(7 * time.Hour)
		if told := w.told("mx"); told != "" {
			t.Errorf("what is ours, staged, or not about our names: %s", told)
		}
		alien, _ := w.issue(cttest.Key(t), "*.example.org", "shop.example.net")
		s.list = append(s.list, alien, alien)
		w.run(7 * time.Hour)
		want := "ct-unknown-certificate error *.example.org, serial " + alien.Serial
		if told := w.told("mx"); told != want {
			t.Errorf("told %q, want %q", told, want)
		}
		w.begin() // after a restart
		if told := w.told("mx"); told != want {
			t.Errorf("after a restart: told %q", told)
		}
		if _, err := ct.Update(t.Context(), w.book, func(m *ct.Memory) { m.Accept(alien) }); err != nil {
			t.Fatal(err)
		}
		w.run(time.Hour)
		if told := w.told("mx"); told != "" {
			t.Errorf("after it was accepted: %s", told)
		}
		again := alien
		again.Serial = "7f01"
		s.list = append(s.list, again)
		w.run(7 * time.Hour)
		if told := w.told("mx"); told != "" {
			t.Errorf("another one for an accepted key: %s", told)
		}
	})
}

// The severity goes down when the certificate has expired, and some days later nothing is told any more.
func TestUnknownExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{name: "certspotter"}
		w := newWorld(t, s)
		w.begin()
		w.run(time.Hour)
		alien, _ := w.issue(cttest.Key(t), "mx.example.org")
		s.list = append(s.list, lives(alien, 24*time.Hour))
		w.run(20 * time.Hour)
		if told := w.told("mx"); !strings.Contains(told, "error") {
			t.Errorf("while it is valid: %s", told)
		}
		w.run(10 * time.Hour)
		if told := w.told("mx"); !strings.Contains(told, "warning") {
			t.Errorf("after it has expired: %s", told)
		}
		w.run(8 * 24 * time.Hour)
		w.begin()
		if told := w.told("mx"); told != "" {
			t.Errorf("a week later: %s", told)
		}
	})
}

// A name that is new in the configuration is learned; the others go on to be watched.
func TestNewName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{name: "certspotter"}
		w := newWorld(t, s)
		w.begin()
		w.run(time.Hour)
		old, _ := w.issue(cttest.Key(t), "mail.example.net")
		both, _ := w.issue(cttest.Key(t), "mx.example.org", "mail.example.net")
		s.list = append(s.list, old, both)
		w.names.Add("mail", []string{"mail.example.net"})
		w.begin()
		w.run(8 * time.Hour)
		if told := w.told("mail"); told != "ct-unknown-certificate error mail.example.net, serial "+both.Serial && told != "ct-unknown-certificate error mx.example.org, serial "+both.Serial {
			t.Errorf("about the new name: %s", told)
		}
		if told := w.told("mx"); !strings.Contains(told, both.Serial) {
			t.Errorf("about the old name: %s", told)
		}
	})
}

// A source that does not know keys: serials of ours count, and what is not known is told after a day.
func TestSourceWithoutKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{name: "crtsh", bare: true}
		w := newWorld(t, s)
		w.begin()
		w.run(time.Hour)
		key := cttest.Key(t)
		ours, c := w.issue(key, "mx.example.org")
		w.store(key, c)
		alien, _ := w.issue(cttest.Key(t), "mx.example.org")
		copied, _ := w.issue(cttest.Key(t), "mx.example.org")
		copied.Serial, copied.Issuer = ours.Serial, "CN=Evil"
		s.list = append(s.list, ours, alien, copied)
		w.run(7 * time.Hour)
		if told := w.told("mx"); told != "" {
			t.Errorf("at once: %s", told)
		}
		w.run(25 * time.Hour)
		if told := w.told("mx"); !strings.Contains(told, alien.Serial) || !strings.Contains(told, ours.Serial) || strings.Count(told, ";") != 1 {
			t.Errorf("a day later: %s", told)
		}
	})
}

// Certificates of other programs are named by their files.
func TestFilesAreOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{name: "certspotter"}
		w := newWorld(t, s)
		w.begin()
		w.run(time.Hour)
		alien, c := w.issue(cttest.Key(t), "mx.example.org")
		s.list = append(s.list, alien)
		w.run(7 * time.Hour)
		if told := w.told("mx"); told == "" {
			t.Fatal("nothing is told")
		}
		file := filepath.Join(t.TempDir(), "cert.pem")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		w.files = []string{filepath.Dir(file) + "/*.pem"}
		w.run(time.Hour)
		if told := w.told("mx"); told != "" {
			t.Errorf("with its file: %s", told)
		}
	})
}

// A source that fails is asked less and less often, told after two days, and forgiven at its first answer.
func TestSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{name: "certspotter", err: &ct.Error{Source: "Cert Spotter", Text: "answered 500"}}
		w := newWorld(t, s)
		w.begin()
		w.run(47 * time.Hour)
		if n := len(s.asked); n > 20 || n < 8 {
			t.Errorf("it was asked %d times in two days", n)
		}
		if told := w.told(""); told != "" {
			t.Errorf("too early: %s", told)
		}
		w.run(8 * time.Hour)
		if told := w.told(""); told != "ct-source warning certspotter" {
			t.Errorf("after two days: %s", told)
		}
		s.err = nil
		w.run(8 * time.Hour)
		if told := w.told(""); told != "" {
			t.Errorf("after an answer: %s", told)
		}
		s.err = &ct.Error{Source: "Cert Spotter", Text: "answered 401", Token: true}
		w.run(8 * time.Hour)
		if told := w.told(""); told != "ct-source warning certspotter" {
			t.Errorf("a refused token: %s", told)
		}
	})
}

// The service says when it wants to be asked again.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{name: "certspotter"}
		w := newWorld(t, s)
		w.begin()
		s.err = &ct.Error{Source: "Cert Spotter", Text: "allows no more requests now", RetryAt: time.Now().Add(20 * time.Hour)}
		w.run(time.Hour)
		n := len(s.asked)
		s.err = nil
		w.run(18 * time.Hour)
		if len(s.asked) != n {
			t.Errorf("it was asked %d times before the time", len(s.asked)-n)
		}
		w.run(2 * time.Hour)
		if len(s.asked) == n {
			t.Error("it was not asked again")
		}
	})
}

// With many names, the requests stay below what is free, each name has its turn, and a restart does not begin anew.
func TestManyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{name: "certspotter", pace: 40 * time.Second}
		w := newWorld(t, s)
		for i := range 200 {
			w.names.Add(fmt.Sprint("c", i), []string{fmt.Sprintf("mx.example%d.org", i)})
		}
		w.begin()
		w.watch.Interval = time.Hour
		w.run(3 * time.Hour)
		seen := map[string]bool{}
		for i, q := range s.asked {
			if seen[q] = true; i >= 90 && s.at[i].Sub(s.at[i-90]) < time.Hour {
				t.Fatalf("more than 90 requests in an hour, at %v", s.at[i])
			}
		}
		if len(seen) != 201 {
			t.Errorf("%d of 201 names were asked about", len(seen))
		}
		n := len(s.asked)
		w.begin()
		w.run(time.Hour)
		again := map[string]bool{}
		for _, q := range s.asked[n:] {
			again[q] = true
		}
		if again[s.asked[n-1]] {
			t.Error("after a restart, the name was asked about that was just asked about")
		}
	})
}

// Floods and damage: what is remembered stays small and can be read again.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{name: "certspotter", size: 3000}
		w := newWorld(t, s)
		e, _ := w.issue(cttest.Key(t), "mx.example.org")
		flood := func(n int) {
			for range n {
				one := e
				one.Serial, one.SPKI = fmt.Sprintf("%032x", len(s.list)), fmt.Sprintf("%064x", len(s.list))
				for i := range 50 {
					one.Names = append(one.Names[:len(one.Names):len(one.Names)], fmt.Sprintf("name%d.example.net", i))
				}
				one.Issuer = strings.Repeat("x", 200)
				s.list = append(s.list, one)
			}
		}
		flood(6000)
		w.begin()
		w.run(time.Hour)
		flood(3000)
		w.run(8 * time.Hour)
		w.begin()
		m, err := ct.Read(w.book)
		if err != nil || len(m.Found) > 4000 || len(m.Unknown) != 200 || m.Dropped != 2800 {
			t.Fatalf("%v; %d learned, %d unknown, %d dropped", err, len(m.Found), len(m.Unknown), m.Dropped)
		}
		findings := m.Findings(w.names, ct.CAA(w.book, nil), w.sources, time.Now())["mx"]
		if len(findings) != 20 || findings[0].Severity != finding.Error {
			t.Errorf("%d findings", len(findings))
		}
	})
}

func TestDamagedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{name: "certspotter"}
		w := newWorld(t, s)
		if err := os.WriteFile(filepath.Join(filepath.Dir(w.book.Lineage("mx").Folder()), "..", "transparency.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.watch = &ct.Watch{Sources: w.sources, Names: w.names, Interval: 6 * time.Hour, Book: w.book, Ours: ct.NewOurs}
		if err := w.watch.Begin(t.Context()); !errors.Is(err, state.ErrDamaged) {
			t.Errorf("%v", err)
		}
		w.run(7 * time.Hour)
		if _, err := ct.Read(w.book); err != nil || len(s.asked) == 0 {
			t.Errorf("%v, asked %d times", err, len(s.asked))
		}
	})
}

// A service that answers with what the state cannot keep must not make mxcert forget what it has found.
func TestUnknownOutlivesHostileAnswers(t *testing.T) {
	for name, change := range map[string]func(*ct.Entry){
		"a long name": func(e *ct.Entry) { e.Names = append(e.Names, strings.Repeat("a", 2<<20)) },
		"many long names": func(e *ct.Entry) {
			for i := range 100 {
				e.Names = append(e.Names, fmt.Sprintf("%0250d", i))
			}
		},
		"a hundred issued": nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &shelf{name: "certspotter"}
			w := newWorld(t, s)
			w.begin()
			w.run(time.Hour)
			first, _ := w.issue(cttest.Key(t), "mx.example.org")
			s.list = append(s.list, first)
			for i := range 300 {
				one := first
				one.Serial, one.SPKI = fmt.Sprintf("%032x", i), fmt.Sprintf("%064x", i)
				if change != nil {
					change(&one)
				}
				if s.list = append(s.list, one); name == "a long name" {
					break
				}
			}
			w.run(8 * time.Hour)
			if told := w.told("mx"); !strings.Contains(told, first.Serial) {
				t.Errorf("%s: %s", name, told)
			}
			w.begin()
			if told := w.told("mx"); !strings.Contains(told, first.Serial) {
				t.Errorf("%s, after a restart: %s", name, told)
			}
		})
	}
}

// What is known stays below what the state reads, however long the daemon runs.
func TestKnownFits(t *testing.T) {
	w := newWorld(t)
	m, _ := ct.Read(w.book)
	for i := range 12_000 {
		text := fmt.Sprintf("%036x %064x %d", i, i, 4_000_000_000+i)
		m.Issued, m.Found = append(m.Issued, text), append(m.Found, text)
	}
	if err := m.Store(w.book); err != nil {
		t.Fatal(err)
	}
	read, err := ct.Read(w.book)
	if err != nil || len(read.Issued) < 3000 || len(read.Found) < 3000 || !slices.Contains(read.Issued, m.Issued[0]) {
		t.Errorf("%v; %d issued, %d found", err, len(read.Issued), len(read.Found))
	}
}

// A zone can make a year that JSON does not have.
func TestYearsThatNothingStores(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"id":"1","dns_names":["mx.example.org"],"not_before":"0000-01-01T00:00:00+12:00","not_after":"9999-12-31T23:59:59-12:00"}]`)
	}))
	defer server.Close()
	page, err := ct.CertSpotter(server.URL, "mxcert", nil).Since(t.Context(), ct.Question{Name: "mx.example.org"}, "")
	if err != nil || len(page.Entries) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	if text, err := json.Marshal(page.Entries[0]); err != nil || page.Entries[0].NotAfter.Year() != 9999 {
		t.Errorf("%s, %v", text, err)
	}
}

// What a later mxcert has written is kept.
func TestLaterMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &shelf{name: "certspotter"})
		file := filepath.Join(filepath.Dir(w.book.Lineage("mx").Folder()), "..", "transparency.json")
		if err := os.WriteFile(file, []byte(`{"version": 99}`), 0o600); err != nil {
			t.Fatal(err)
		}
		w.watch = &ct.Watch{Sources: w.sources, Names: w.names, Interval: 6 * time.Hour, Book: w.book, Ours: ct.NewOurs}
		if err := w.watch.Begin(t.Context()); err == nil || !strings.Contains(err.Error(), "it is kept as transparency.json.damaged") {
			t.Errorf("%v", err)
		}
		w.run(7 * time.Hour)
		if text, err := os.ReadFile(file + ".damaged"); err != nil || string(text) != `{"version": 99}` {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := ct.Read(w.book); err != nil {
			t.Error(err)
		}
	})
}
