package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	systemd "github.com/coreos/go-systemd/v22/journal"
)

// desk takes entries instead of journald.
type desk struct {
	mu      sync.Mutex
	entries []entry
	fails   error         // the answer to the next ones
	hangs   chan struct{} // closed when it reads again; nil if it reads
}

func (d *desk) post(message string, p systemd.Priority, fields map[string]string) error {
	d.mu.Lock()
	hangs := d.hangs
	d.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails != nil {
		return d.fails
	}
	d.entries = append(d.entries, entry{message, p, fields})
	return nil
}

func (d *desk) set(fails error, hangs chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails, d.hangs = fails, hangs
}

func (d *desk) all() []entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]entry(nil), d.entries...)
}

// lines is what goes to standard error.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// logger returns a logger to a desk; what the desk does not take becomes lines.
func logger(d *desk, patience time.Duration) (*slog.Logger, *lines) {
	out := &lines{}
	spare := slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(newHandler(spare, d.post, patience)), out
}

const generous = time.Minute

// A record as a person and a program find it in the journal.
func TestEntries(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	for _, tt := range []struct {
		what     string
		log      func(*slog.Logger)
		message  string
		priority systemd.Priority
		fields   map[string]string
	}{
		{"a failure", func(l *slog.Logger) {
			l.With("certificate", "mx").Error("pass failed", "stage", "order", "kind", "ca-error", "error", errors.New("out of order"), "hint", "wait", "order", "https://ca/1", OrderFailed.Attr())
		}, "mx: pass failed: out of order (stage=order kind=ca-error order=https://ca/1) → wait", systemd.PriErr, map[string]string{
			"MESSAGE_ID": "321edc103171473fafed65bf7b3371aa", "MXCERT_CERTIFICATE": "mx", "MXCERT_STAGE": "order", "MXCERT_KIND": "ca-error",
			"MXCERT_ERROR": "out of order", "MXCERT_HINT": "wait", "MXCERT_ORDER": "https://ca/1"}},
		{"an event without a hint", func(l *slog.Logger) { l.Warn("TXT records remain", "error", "refused", TXTRemain.Attr()) }, "TXT records remain: refused", systemd.PriWarning,
			map[string]string{"MXCERT_ERROR": "refused", "MXCERT_DETAIL": "", "MXCERT_HINT": ""}},
		{"a success", func(l *slog.Logger) {
			l.Info("certificate in service", "certificate", "mx", "serial", []string{"0a", "0b"}, "next_renewal", &at, Served.Attr())
		}, `mx: certificate in service (serial="0a 0b" next_renewal=2026-03-01T11:00:00Z)`, systemd.PriInfo, map[string]string{
			"MESSAGE_ID": "a30a377e935c4538b8b049f698b16a52", "MXCERT_SERIAL": "0a 0b", "MXCERT_NEXT_RENEWAL": "2026-03-01T11:00:00Z"}},
		{"progress", func(l *slog.Logger) { l.Warn("progress", "certificate", "mx", "stage", "dns", "detail", "slow") },
			"mx: dns: slow", systemd.PriWarning, map[string]string{"MXCERT_STAGE": "dns", "MXCERT_DETAIL": "slow", "SYSLOG_IDENTIFIER": "mxcert", "SYSLOG_FACILITY": "3"}},
		{"groups and times", func(l *slog.Logger) {
			l.WithGroup("g").With("a", 1).Info("m", slog.Group("h", "at", at), slog.Group("", "b", true))
		}, "m (g.a=1 g.h.at=2026-03-01T11:00:00Z g.b=true)", systemd.PriInfo, map[string]string{"MXCERT_G_A": "1", "MXCERT_G_H_AT": "2026-03-01T11:00:00Z", "MXCERT_G_B": "true"}},
		{"foreign text", func(l *slog.Logger) { l.Info("m", "error", "a\x1b[31m\x00\xff\nmx: forged\ttab") },
			"m: a\uFFFD[31m\uFFFD\uFFFD\n  mx: forged\ttab", systemd.PriInfo, map[string]string{"MXCERT_ERROR": "a\uFFFD[31m\uFFFD\uFFFD\nmx: forged\ttab"}},
		{"an event that does not exist", func(l *slog.Logger) { l.Info("m", Event("nosuch").Attr()) }, "m", systemd.PriInfo, map[string]string{"MESSAGE_ID": ""}},
		{"odd names", func(l *slog.Logger) { l.Info("m", "größe=x", "1", strings.Repeat("k", 100), "2") },
			"m (größe=x=1 " + strings.Repeat("k", 100) + "=2)", systemd.PriInfo, map[string]string{"MXCERT_GR__E_X": "1", "MXCERT_" + strings.Repeat("K", 57): "2"}},
	} {
		d := &desk{}
		log, out := logger(d, generous)
		tt.log(log)
		got := d.all()
		if len(got) != 1 || out.String() != "" {
			t.Fatalf("%s: %d entries, %q", tt.what, len(got), out)
		}
		if got[0].message != tt.message || got[0].priority != tt.priority {
			t.Errorf("%s: %d %q, want %d %q", tt.what, got[0].priority, got[0].message, tt.priority, tt.message)
		}
		for name, want := range tt.fields {
			if got, has := got[0].fields[name]; got != want || !has && name != "MESSAGE_ID" {
				t.Errorf("%s: %s is %q (%t), want %q", tt.what, name, got, has, want)
			}
		}
	}
}

// However large a record is, its entry fits into a datagram and is text.
func TestHugeRecord(t *testing.T) {
	t.Parallel()
	d := &desk{}
	log, _ := logger(d, generous)
	attrs := []any{"certificate", "mx", "error", strings.Repeat("é", 1<<20)}
	for i := range 1000 {
		attrs = append(attrs, fmt.Sprintf("k%d", i), strings.Repeat("x", 10<<10))
	}
	log.Info("m", attrs...)
	e, size := d.all()[0], 0
	for name, value := range e.fields {
		size += len(name) + len(value)
		if !utf8.ValidString(value) || len(value) > mostValue {
			t.Errorf("%s has %d bytes", name, len(value))
		}
	}
	if size += len(e.message); size > 160<<10 || len(e.message) > mostMessage || !utf8.ValidString(e.message) || e.fields["MXCERT_CERTIFICATE"] != "mx" {
		t.Errorf("%d bytes, %d fields", size, len(e.fields))
	}
}

// Levels are those of the other handler, and levels that are off cost nothing.
func TestLevel(t *testing.T) {
	t.Parallel()
	d := &desk{}
	log, _ := logger(d, generous)
	if log.Debug("hidden"); len(d.all()) != 0 || log.Enabled(t.Context(), slog.LevelDebug) || !log.With("a", 1).Enabled(t.Context(), slog.LevelInfo) {
		t.Error("a level that is off is logged")
	}
}

// Whatever the journal does, each record is somewhere, the reason is said once, and the journal is used again when it works.
func TestJournalFails(t *testing.T) {
	t.Parallel()
	d := &desk{}
	log, out := logger(d, generous)
	log = log.With("certificate", "mx")
	log.Info("one")
	d.set(errors.New("no such file or directory"), nil)
	log.Info("two", Served.Attr())
	log.Info("three")
	d.set(nil, nil)
	log.Info("four")
	const want = "level=WARN msg=\"the journal takes no entries with fields; the log continues with lines of text\" certificate=mx error=\"no such file or directory\"\n" +
		"level=INFO msg=two certificate=mx event=served\nlevel=INFO msg=three certificate=mx\n"
	if out.String() != want {
		t.Errorf("lines:\n%s", out)
	}
	if got := d.all(); len(got) != 2 || got[0].message != "mx: one" || got[1].message != "mx: four" {
		t.Errorf("entries: %+v", got)
	}
	d.set(errors.New("again"), nil)
	if log.Info("five"); strings.Count(out.String(), "takes no entries") != 2 {
		t.Errorf("a second outage:\n%s", out)
	}
}

// A journal that hangs holds up the first record for a moment and no other, and nothing is lost.
func TestJournalHangs(t *testing.T) {
	t.Parallel()
	d, back := &desk{}, make(chan struct{})
	log, out := logger(d, 10*time.Millisecond)
	d.set(nil, back)
	const records = 200
	var all sync.WaitGroup
	for i := range records {
		all.Go(func() { log.Info("record", "n", i) })
	}
	all.Wait()
	for i := range records {
		if !strings.Contains(out.String(), fmt.Sprintf("n=%d\n", i)) {
			t.Errorf("record %d is nowhere", i)
		}
	}
	d.set(nil, nil)
	close(back)
	deadline := time.Now().Add(generous)
	for n := 0; ; n++ { // the entry that hung comes late, and then others again
		if log.Info("again", "n", n); len(d.all()) >= 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the journal is not used again: %+v", d.all())
		}
	}
	if got := d.all(); len(got) == 0 || !strings.HasPrefix(got[0].message, "record") {
		t.Errorf("entries: %+v", got)
	}
}

// stuck is a writer that does not write until it is freed.
type stuck struct {
	lines
	begins chan struct{} // has an element when it is to write for the first time
	freed  chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	select {
	case s.begins <- struct{}{}:
	default:
	}
	<-s.freed
	return s.lines.Write(p)
}

// Lines of text do not wait for a stream that is full. Those that find no place are counted.
func TestPatient(t *testing.T) {
	t.Parallel()
	out := &stuck{begins: make(chan struct{}, 1), freed: make(chan struct{})}
	p := NewPatient(out)
	p.patience = 10 * time.Millisecond
	for i := range mostLines + 20 { // one is being written
		if n, err := fmt.Fprintf(p, "line %d\n", i); err != nil || n == 0 {
			t.Fatal(n, err)
		}
		if i == 0 {
			<-out.begins
		}
	}
	close(out.freed)
	deadline := time.Now().Add(generous)
	for !strings.Contains(out.String(), fmt.Sprintf("line %d\n", mostLines)) {
		if time.Now().After(deadline) {
			t.Fatalf("not all lines are written:\n%s", out)
		}
		time.Sleep(time.Millisecond)
	}
	if got := out.String(); !strings.HasPrefix(got, "line 0\n") || !strings.Contains(got, "<4>19 lines of the log are lost, because the journal did not read\n") {
		t.Errorf("lines:\n%.2000s", got)
	}
	p.patience = generous
	if fmt.Fprintln(p, "after"); !strings.HasSuffix(out.String(), "after\n") {
		t.Errorf("a writer that works again is not waited for")
	}
}

// Each event has one ID of its own in the form that the journal has (sd-id128(3)).
func TestEvents(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "events.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared, seen := 0, map[string]Event{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || fmt.Sprint(spec.Type) != "Event" {
			return true
		}
		declared++
		name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if id := IDs()[Event(name)]; err != nil || !regexp.MustCompile(`^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$`).MatchString(id) || seen[id] != "" {
			t.Errorf("%s has the ID %q", name, id)
		} else {
			seen[id] = Event(name)
		}
		return true
	})
	if declared != len(IDs()) || declared < 25 {
		t.Errorf("%d events are declared, %d have IDs", declared, len(IDs()))
	}
}

// BenchmarkLog is what a record costs beside sending it.
func BenchmarkLog(b *testing.B) {
	log := slog.New(newHandler(slog.DiscardHandler, func(string, systemd.Priority, map[string]string) error { return nil }, generous))
	_ = log.Enabled(context.Background(), slog.LevelInfo)
	h := log.Handler()
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "certificate in service", 0)
	r.Add("certificate", "mx", "serial", "0a", Served.Attr())
	for b.Loop() {
		_ = h.Handle(context.Background(), r)
	}
}
