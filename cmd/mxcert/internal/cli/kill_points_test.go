package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"

	"mxcert/cmd/mxcert/internal/report"
)

// The points at which a run is killed are the requests that it makes: each HTTP request to the CA and each message to the
// name server is counted when it arrives.
const (
	beforeCA     = "CA, before it acts"
	afterCA      = "CA, after it acted"
	beforeDNS    = "name server, before it acts"
	afterDNS     = "name server, after an update"
	atHook       = "hook"
	killPatience = time.Minute
)

// gallows kills a process of its own when the number-th request of a kind arrives, while the requester waits for the
// answer.
type gallows struct {
	*host
	kind string

	mu     sync.Mutex
	made   map[ca.Endpoint]int // what the CA has made, whether or not the answer arrived
	number int                 // 0: nobody is killed
	count  int
	victim *os.Process
	ended  chan struct{} // closed when the victim has ended
	point  string        // what it was killed at
}

// newGallows makes a host whose CA and name server count the requests of a kind.
func newGallows(t *testing.T, kind string) *gallows {
	g := &gallows{host: newHost(t, lab.Options{}, lab.ConfigOptions{}), kind: kind, made: map[ca.Endpoint]int{}}
	g.CA.SetWrap(func(next http.Handler) http.Handler {
		next = g.counting(refuseUnknownReplaced(next))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.answer(w, r, next) })
	})
	g.Primary.SetFaults(nameserver.Faults{
		Before: func(request *dns.Msg) {
			if kind == beforeDNS {
				g.arrives(dns.OpcodeToString[request.Opcode]+" "+request.Question[0].String(), nil)
			}
		},
		Edit: func(request, reply *dns.Msg) *dns.Msg {
			if kind == afterDNS && request.Opcode == dns.OpcodeUpdate {
				g.arrives("UPDATE "+request.Ns[0].String(), nil)
			}
			return reply
		},
	})
	if kind == atHook {
		for _, event := range []string{"pre", "deploy", "post"} {
			g.hook(event+".d/kill", fmt.Sprintf("echo %s >> %s/hooks-ran\n[ \"$(wc -l < %s/hooks-ran)\" != \"$(cat %s/kill-at)\" ] || kill -9 $PPID", event, g.Directory, g.Directory, g.Directory))
		}
	}
	return g
}

// answer passes a request on, unless it is the last one of a life.
func (g *gallows) answer(w http.ResponseWriter, r *http.Request, next http.Handler) {
	point := fmt.Sprintf("%s %s", r.Method, ca.EndpointOf(r.URL.Path))
	act := func() {
		body, _ := io.ReadAll(r.Body)
		again := r.WithContext(context.WithoutCancel(r.Context()))
		again.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(httptest.NewRecorder(), again)
	}
	switch {
	case g.kind == beforeCA && g.arrives(point, nil), g.kind == afterCA && g.arrives(point, act):
		panic(http.ErrAbortHandler)
	}
	next.ServeHTTP(w, r)
}

// arrives counts a request, and reports whether the victim was killed at it, after the act.
func (g *gallows) arrives(point string, act func()) bool {
	g.mu.Lock()
	g.count++
	hit := g.number > 0 && g.count == g.number && g.victim != nil
	victim, ended := g.victim, g.ended
	if hit {
		g.point = point
	}
	g.mu.Unlock()
	if !hit {
		return false
	}
	if act != nil {
		act()
	}
	_ = victim.Kill()
	select {
	case <-ended:
	case <-time.After(killPatience):
	}
	return true
}

// hang runs a command and kills it at the request of that number. The point is "" where it came to its end before.
func (g *gallows) hang(number int, args ...string) (point string) {
	g.t.Helper()
	g.check(os.WriteFile(g.Path("kill-at"), fmt.Append(nil, number), 0o600))
	_ = os.Remove(g.Path("hooks-ran"))
	exe, err := os.Executable()
	g.check(err)
	var said bytes.Buffer
	cmd := exec.CommandContext(g.t.Context(), exe, append([]string{"-c", g.config, "--progress", "plain"}, args...)...)
	cmd.Args[0], cmd.Env, cmd.Stderr, cmd.Stdout = "mxcert", []string{"GORACE=" + noSleep, "PATH=" + os.Getenv("PATH")}, &said, &said
	ended := make(chan struct{})
	g.mu.Lock() // what arrives meanwhile waits until it is known who is to be killed
	g.check(cmd.Start())
	g.number, g.count, g.victim, g.ended, g.point = number, 0, cmd.Process, ended, ""
	g.mu.Unlock()
	_ = cmd.Wait() // how it ended is what is looked at
	close(ended)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.number, g.victim = 0, nil
	switch code := cmd.ProcessState.ExitCode(); {
	case code == -1 && g.kind == atHook:
		ran, _ := os.ReadFile(g.Path("hooks-ran"))
		return fmt.Sprintf("%s hook", bytes.TrimSpace(ran[bytes.LastIndexByte(bytes.TrimSpace(ran), '\n')+1:]))
	case code == -1 && g.point != "":
		return g.point
	case code != int(report.CodeOK):
		g.t.Fatalf("exit code %d, killed at %q:\n%s", code, g.point, said.String())
	}
	return ""
}

// spotless fails the test when anything of a killed run is left.
func (g *gallows) spotless(when string) {
	g.t.Helper()
	if left := g.World.Challenges(); len(left) > 0 {
		g.t.Errorf("%s: TXT records remain: %v", when, left)
	}
	for _, pattern := range []string{
		"state/journal/*", "state/orders/*", "state/.tmp-*", "state/lineages/.tmp-*", "state/lineages/mx/.*", "state/accounts/.tmp-*", "state/accounts/*/.tmp-*", "tls/.*/*",
	} {
		if left, err := filepath.Glob(g.Path(pattern)); err != nil || len(left) > 0 {
			g.t.Errorf("%s: left behind: %v (%v)", when, left, err)
		}
	}
}

// counting counts what the CA makes.
func (g *gallows) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		if answer.Code == http.StatusCreated {
			g.mu.Lock()
			g.made[ca.EndpointOf(r.URL.Path)]++
			g.mu.Unlock()
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

// created counts what the CA has made since it was last asked.
func (g *gallows) created() map[ca.Endpoint]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	made := g.made
	g.made = map[ca.Endpoint]int{}
	return made
}

// atEach runs an attempt for each point of a kind, shared out among several hosts, and gives how many points there are.
// The attempt kills a run at the point of that number and names the point, "" where there are no more.
func atEach(t *testing.T, shares int, kind string, points *atomic.Int64, prepare func(*gallows), attempt func(g *gallows, number int) (point string)) {
	for share := range shares {
		t.Run(fmt.Sprintf("%s %d", kind, share+1), func(t *testing.T) {
			t.Parallel()
			g := newGallows(t, kind)
			prepare(g)
			var log []string
			for number := share + 1; ; number += shares {
				point := attempt(g, number)
				if point == "" {
					break
				}
				points.Add(1)
				log = append(log, fmt.Sprintf("%d %s", number, point))
			}
			t.Logf("%d points: %s", len(log), strings.ReplaceAll(strings.Join(log, ", "), "\t", " "))
		})
	}
}

// The first order of two names is killed at every request that it makes, before and after the other side has acted. The
// next run brings it to its end: with one order, one account and one certificate in all, and nothing left behind.
func TestKillPoints(t *testing.T) {
	t.Parallel()
	var points atomic.Int64
	t.Run("points", func(t *testing.T) {
		none := func(*gallows) {}
		atEach(t, 2, beforeCA, &points, none, (*gallows).firstOrder)
		atEach(t, 2, afterCA, &points, none, (*gallows).firstOrder)
		atEach(t, 4, beforeDNS, &points, none, (*gallows).firstOrder)
		atEach(t, 1, afterDNS, &points, none, (*gallows).firstOrder)
		atEach(t, 1, atHook, &points, none, (*gallows).firstOrder)
	})
	t.Logf("%d points", points.Load())
	if points.Load() < 40 {
		t.Errorf("only %d points", points.Load())
	}
}

// firstOrder kills one order on a host where nothing was done yet, and looks at what the next run makes of it.
func (g *gallows) firstOrder(number int) (point string) {
	g.t.Helper()
	for _, path := range []string{"state", "tls/mx.crt", "tls/mx.key"} {
		g.check(os.RemoveAll(g.Path(path)))
	}
	g.created()
	issued := len(g.CA.Issued())
	point = g.hang(number, "renew")
	if point == "" {
		return ""
	}
	when := fmt.Sprintf("%s: %d, %s", g.kind, number, point)
	c := g.report(report.CodeOK, "renew").Certificates[0]
	if c.Stage != report.Served || len(c.Endpoints) != 1 || !c.Endpoints[0].Matches || len(c.Warnings) > 0 {
		g.t.Errorf("%s: %+v", when, c)
	}
	if _, err := tls.LoadX509KeyPair(g.Path("tls", "mx.crt"), g.Path("tls", "mx.key")); err != nil {
		g.t.Errorf("%s: %v", when, err)
	}
	orders := 1
	if g.kind == afterCA && point == "POST newOrder" {
		orders = 2 // the one moment that nothing can be done about: the CA has made the order, and its URL has not arrived
	}
	if made := g.created(); made[ca.NewOrder] != orders || made[ca.NewAccount] != 1 {
		g.t.Errorf("%s: the CA has made %v, want %d orders and one account", when, made, orders)
	}
	if n := len(g.CA.Issued()) - issued; n != 1 {
		g.t.Errorf("%s: %d certificates", when, n)
	}
	g.spotless(when)
	if again := g.report(report.CodeOK, "renew"); again.Changed {
		g.t.Errorf("%s: it does not come to rest: %+v", when, again)
	}
	return point
}

// A change of the account's key is killed at every request that it makes. The next change, or the next order, finds out
// which key the CA knows: the account is never lost.
func TestKillRollover(t *testing.T) {
	t.Parallel()
	var points atomic.Int64
	url := func(g *gallows) string {
		account := g.accounts(report.CodeOK, "show").Accounts[0]
		if account.Status != "valid" || !account.Asked || account.Key.Pending {
			g.t.Errorf("%s: the account is %+v", g.kind, account)
		}
		return account.URL
	}
	t.Run("points", func(t *testing.T) {
		for _, kind := range []string{beforeCA, afterCA} {
			atEach(t, 1, kind, &points, func(g *gallows) { g.accounts(report.CodeOK, "register") }, func(g *gallows, number int) string {
				before := url(g)
				point := g.hang(number, "account", "rollover")
				if point == "" {
					return ""
				}
				if number%2 == 0 {
					g.report(report.CodeOK, "renew", "--now")
				} else {
					g.accounts(report.CodeOK, "rollover")
				}
				if now := url(g); now != before {
					t.Errorf("%s: %d, %s: the account is %s, was %s", kind, number, point, now, before)
				}
				if left, err := filepath.Glob(g.Path("state", "accounts", "*", ".tmp-*")); err != nil || len(left) > 0 {
					t.Errorf("%s: %d, %s: left behind: %v (%v)", kind, number, point, left, err)
				}
				return point
			})
		}
	})
	if points.Load() < 10 {
		t.Errorf("only %d points", points.Load())
	}
}

// A revocation is killed at every request that it makes. Run again, it revokes the certificate that was meant, and the
// compromised key is not used again.
func TestKillRevoke(t *testing.T) {
	t.Parallel()
	var points atomic.Int64
	t.Run("points", func(t *testing.T) {
		for _, kind := range []string{beforeCA, afterCA} {
			atEach(t, 1, kind, &points, func(*gallows) {}, func(g *gallows, number int) string {
				meant := g.report(report.CodeOK, "renew", "--new-key").Certificates[0].Keys[0]
				args := []string{"revoke", "mx", "--reason", "keyCompromise", "--yes"}
				point := g.hang(number, args...)
				if point == "" {
					return ""
				}
				when := fmt.Sprintf("%s: %d, %s", kind, number, point)
				if number%2 == 0 { // a pass of the daemon comes in between
					g.report(report.CodeOK, "renew", "--now")
				}
				if again := g.revoke(report.CodeOK, args[2:4]...); again.Certificates[0].Serial != meant.Serial && g.revokedAs(meant.Serial) < 0 {
					t.Errorf("%s: %+v", when, again)
				}
				if reason := g.revokedAs(meant.Serial); reason != 1 {
					t.Errorf("%s: revoked as %d", when, reason)
				}
				if next := g.report(report.CodeOK, "renew", "--now").Certificates[0].Keys[0]; next.SPKI == meant.SPKI {
					t.Errorf("%s: the key is used again", when)
				}
				return point
			})
		}
	})
	if points.Load() < 4 {
		t.Errorf("only %d points", points.Load())
	}
}
