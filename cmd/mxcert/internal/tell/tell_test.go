package tell_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
)

// listener records what it is called with.
type listener struct {
	off   bool
	again time.Duration
	hangs bool
	panic bool

	mu     sync.Mutex
	worlds []tell.World
	passes int
}

func (*listener) Name() string           { return "test" }
func (l *listener) On(*wanted.Host) bool { return !l.off }
func (l *listener) Witness(p tell.Pass)  { l.passes++ }
func (l *listener) calls() []tell.World  { l.mu.Lock(); defer l.mu.Unlock(); return l.worlds }
func (l *listener) last() (w tell.World) { list := l.calls(); return list[len(list)-1] }
func (l *listener) count(t *testing.T, want int) {
	t.Helper()
	if got := len(l.calls()); got != want {
		t.Fatalf("%d calls, want %d", got, want)
	}
}

func (l *listener) Listen(ctx context.Context, w tell.World) (again time.Time) {
	l.mu.Lock()
	l.worlds = append(l.worlds, w)
	l.mu.Unlock()
	if l.panic {
		panic("boom")
	}
	if l.hangs {
		<-ctx.Done()
	}
	if l.again > 0 {
		return time.Now().Add(l.again)
	}
	return time.Time{}
}

func host(names ...string) *wanted.Host {
	h := &wanted.Host{}
	for _, name := range names {
		h.Certificates = append(h.Certificates, wanted.Certificate{Name: name})
	}
	return h
}

func passed(name string) tell.Pass { return tell.Pass{Report: report.New(name, nil), At: time.Now()} }

// step lets a second and a half go by.
func step() {
	time.Sleep(1500 * time.Millisecond)
	synctest.Wait()
}

func TestHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		good, broken, hanging, unwanted := &listener{}, &listener{panic: true}, &listener{hangs: true}, &listener{off: true}
		hub := tell.New(slog.New(slog.NewTextHandler(&log, nil)), "1.0", broken, hanging, good, unwanted)
		hub.Passed(passed("mx")) // before a configuration: nobody can be told
		step()
		good.count(t, 0)
		hub.InForce(host("mx", "old"), nil)
		for range 100 { // one after another
			hub.Passed(passed("mx"))
			hub.Passed(passed("old"))
			time.Sleep(time.Millisecond)
		}
		hub.Found(tell.Topic{Source: "senders", Certificate: "old"}, []finding.Finding{finding.New("x", finding.Error, "y")})
		step()
		good.count(t, 1)
		broken.count(t, 1)
		hanging.count(t, 1)
		unwanted.count(t, 0)
		if w := good.last(); strings.Join(w.Names(), " ") != "mx old" || len(w.Findings) != 1 || w.Release != "1.0" || w.Final {
			t.Errorf("the world is %+v", w)
		}
		if good.passes != 201 {
			t.Errorf("%d passes were seen", good.passes)
		}
		hub.ConfigBad("line 3")
		step()
		since := good.last().ConfigBadAt
		hub.ConfigBad("line 4")
		step()
		if w := good.last(); w.ConfigError != "line 4" || w.ConfigBadAt != since || since.IsZero() {
			t.Errorf("bad since %s: %s", w.ConfigBadAt, w.ConfigError)
		}
		hub.InForce(host("mx"), nil)
		step()
		if w := good.last(); strings.Join(w.Names(), " ") != "mx" || len(w.Findings) != 0 || w.ConfigError != "" {
			t.Errorf("after an edit the world is %+v", w)
		}
		good.off, unwanted.off = true, false
		hub.InForce(host("mx"), nil)
		step()
		n := len(good.calls()) // once more, so that it can end
		hub.Passed(passed("mx"))
		step()
		good.count(t, n)
		unwanted.count(t, 2)
		hub.Passed(passed("mx"))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		hub.Close(ctx)
		if took := time.Since(began); took != 3*time.Second { // because of the one that hangs
			t.Errorf("closed after %s", took)
		}
		synctest.Wait()
		if w := unwanted.last(); !w.Final || len(unwanted.calls()) != 3 {
			t.Errorf("at the end: %d calls, final %v", len(unwanted.calls()), w.Final)
		}
		if text := log.String(); strings.Count(text, "a listener failed") == 0 || !strings.Contains(text, "boom") {
			t.Errorf("the log says %s", text)
		}
		hub.Passed(passed("mx"))
		step()
		unwanted.count(t, 3)
	})
}

// A listener that waits for a time is called then, and a change makes that sooner.
func TestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listener{again: time.Hour}
		hub := tell.New(slog.New(slog.DiscardHandler), "1.0", l)
		hub.InForce(host("mx"), nil)
		step()
		l.count(t, 1)
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		l.count(t, 1)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		l.count(t, 2)
		hub.Passed(passed("mx"))
		step()
		l.count(t, 3)
		for range 50 { // changes all the time do not put the call off
			hub.Passed(passed("mx"))
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if n := len(l.calls()); n < 6 {
			t.Errorf("%d calls in five seconds of changes", n-3)
		}
		hub.Close(t.Context())
	})
}
