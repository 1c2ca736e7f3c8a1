package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// row is what one way to deploy does to senders.
type row struct {
	layout
	reload, key string

	deployments int
	counts      mailhost.Counts
	stale       int             // sessions with an earlier certificate that began after mxcert had said that the new one is served
	held, lost  int             // sessions that waited while the certificate changed, and those of them that could not go on
	gaps        []time.Duration // for which an address refused connections
	shown       []time.Duration // from the renaming to the first handshake with the new certificate
	problems    []string
}

const tableHead = "server   reload  layout     key       deployed attempts  refused reset 454 handshake other stale  held lost  gap ms median/max  shown ms median/max"

func (r *row) String() string {
	c := r.counts
	return fmt.Sprintf("%-8s %-7s %-10s %-9s %8d %8d %8d %5d %3d %9d %5d %5d %5d %4d %9d/%-8d %10d/%-8d", r.server, r.reload, r.name, r.key, r.deployments, c.Attempts,
		c.Refused, c.Reset, c.Unavailable, c.Handshake, c.Busy+c.Timeout+c.Other, r.stale, r.held, r.lost, median(r.gaps), longest(r.gaps), median(r.shown), longest(r.shown))
}

func median(list []time.Duration) int64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)/2].Milliseconds()
}

func longest(list []time.Duration) int64 {
	if len(list) == 0 {
		return 0
	}
	return slices.Max(list).Milliseconds()
}

// deployments is how often each row of the table deploys: MXCERT_LOAD, or a few times.
func deployments(t *testing.T) int {
	t.Helper()
	if !wholeTable() {
		return 3
	}
	n, err := strconv.Atoi(os.Getenv("MXCERT_LOAD"))
	if err != nil || n < 1 {
		t.Fatalf("MXCERT_LOAD=%q is no number of deployments", os.Getenv("MXCERT_LOAD"))
	}
	return n
}

// wholeTable says that all rows are wanted; otherwise there is time for the pair of files and for the SNI map.
func wholeTable() bool { return os.Getenv("MXCERT_LOAD") != "" }

// table lists the rows: of each server, of each layout and of each way to reload one with the same key and one with a new one.
func table() (rows [][2]*row) {
	for _, l := range layouts() {
		for _, reload := range []string{"always", "auto"} {
			byItself := l.server == "exim" && l.name != "directory" // nothing but Exim with files notices a change
			if (reload == "always" || byItself) && (wholeTable() || l.name == "pair" || l.name == "sni_map") {
				rows = append(rows, [2]*row{{layout: l, reload: reload, key: "same key"}, {layout: l, reload: reload, key: "new key"}})
			}
		}
	}
	return rows
}

// Story 8: certificates are exchanged again and again while eight clients at a time talk to the server, and some wait with a
// session open. Every kind of failure that a sender could see is counted.
func TestDeploymentsUnderLoad(t *testing.T) {
	mailhost.Require(t)
	figure(t, "%s", tableHead)
	for _, keys := range table() {
		r := keys[0]
		t.Run(strings.Join([]string{r.server, r.name, r.reload}, "/"), func(t *testing.T) {
			t.Parallel()
			s := beginWith(t, r.reload, r.layout)
			s.report(0, "renew")
			for _, r := range keys {
				t.Run(r.key, func(t *testing.T) { s.in(t).deployUnderLoad(r) })
			}
		})
	}
}

// patienceOfDovecot is how long after a reload Dovecot ends the sessions in which nobody has logged in yet (SERVICES_KILL_TIMEOUT_SECS in
// src/master/services.c). A deployment on a busy machine takes longer.
const patienceOfDovecot = 5 * time.Second

// deployUnderLoad fills a row in and holds it against what mxcert promises.
func (s *story) deployUnderLoad(r *row) {
	s.t.Helper()
	args := []string{"renew", "--now"}
	if r.key == "new key" {
		args = append(args, "--new-key")
	}
	s.report(0, args...)
	addresses := endpoints(r.server)
	pace := 60 * time.Millisecond
	if r.reload == "auto" {
		pace = 500 * time.Millisecond // Exim takes five seconds each time
	}
	load := s.StartLoad(s.t.Context(), 8, pace, addresses...)
	var windows [][2]time.Time
	var previous string // the certificate before, and when it was proven
	var proven time.Time
	for i := range deployments(s.t) {
		held := s.hold(addresses[i%len(addresses)])
		began := time.Now()
		serial := s.report(0, "rollback", "mx").Certificates[0].Keys[0].Serial
		ended := time.Now()
		windows = append(windows, [2]time.Time{began, ended})
		r.deployments++
		for _, h := range held {
			r.held++
			if err := h.Use(); err != nil {
				r.lost++
				if r.server == "dovecot" && ended.Sub(began) > patienceOfDovecot {
					continue
				}
				r.problems = append(r.problems, fmt.Sprintf("a session open during the change: %v", err))
			}
		}
		renamed := s.renamed(r.marks)
		if renamed.Before(began) {
			s.t.Errorf("began %v, renamed %v", began, renamed)
		}
		for _, x := range load.Sessions() {
			if previous != "" && x.Serial != "" && x.Serial != previous && x.Began.After(proven) && x.Secured.Before(renamed) {
				r.stale++
			}
		}
		previous, proven = serial, ended
		first := s.firstShown(load, serial, renamed)
		time.Sleep(100 * time.Millisecond)
		r.shown = append(r.shown, first.Sub(renamed))
	}
	r.counts = load.Stop()
	r.gaps = mailhost.Gaps(load.Sessions())
	figure(s.t, "%s", r)
	s.judge(r, load.Sessions(), windows)
}

// firstShown waits until the load has seen a certificate, and gives the time of the first handshake after a moment that showed it.
func (s *story) firstShown(load *mailhost.Load, serial string, after time.Time) (first time.Time) {
	s.t.Helper()
	within(s.t, 30*time.Second, serial+" is served", func() (ok bool) {
		first, ok = mailhost.FirstShown(load.Sessions(), serial, after)
		return ok
	})
	return first
}

// hold begins two sessions that wait: one with TLS and one before it.
func (s *story) hold(address string) []*mailhost.Held {
	s.t.Helper()
	var list []*mailhost.Held
	for _, secure := range []bool{true, false} {
		h, err := s.Hold(address, secure)
		if err != nil {
			s.t.Fatalf("begin a session at %s: %v", address, err)
		}
		list = append(list, h)
	}
	return list
}

// renamed is the time of the last change of these files' inodes.
func (s *story) renamed(paths string) (last time.Time) {
	s.t.Helper()
	for _, path := range strings.Fields(paths) {
		info, err := s.Stat(path)
		s.check(err)
		if c := info.Sys().(*syscall.Stat_t).Ctim; time.Unix(c.Unix()).After(last) {
			last = time.Unix(c.Unix())
		}
	}
	return last
}

// judge compares a row with the promises: nothing is lost, but what a reload costs that mxcert cannot make cheaper.
//
// An Exim that is reloaded listens anew: until it does, connections are refused, and those that waited to be accepted are
// reset. A login process of Dovecot that has just started and is not connected to the authentication server yet says BYE to
// its client when a reload comes (login_die in src/login-common/main.c): two in ten thousand on a busy machine. No other
// session that has begun ends, and nothing happens at any other time.
func (s *story) judge(r *row, sessions []mailhost.Session, windows [][2]time.Time) {
	s.t.Helper()
	farewells := 0
	for _, x := range sessions {
		if x.Err == nil {
			continue
		}
		during := slices.ContainsFunc(windows, func(w [2]time.Time) bool { return x.Began.After(w[0]) && x.Began.Before(w[1].Add(time.Second)) })
		closed := errors.Is(x.Err, syscall.ECONNREFUSED) || errors.Is(x.Err, syscall.ECONNRESET) && !x.Greeted
		farewell := strings.Contains(x.Err.Error(), "* BYE Shutting down")
		switch {
		case during && closed && r.server == "exim" && r.reload == "always":
		case during && farewell && r.server == "dovecot" && farewells <= r.deployments/20:
			farewells++
		default:
			r.problems = append(r.problems, fmt.Sprintf("%s (answered: %t, during a deployment: %t): %v", x.Address, x.Greeted, during, x.Err))
		}
	}
	if r.stale > 0 {
		r.problems = append(r.problems, fmt.Sprintf("%d sessions had the old certificate after all", r.stale))
	}
	if len(r.problems) > 0 {
		s.t.Errorf("%s\n%s\n%s", tableHead, r, strings.Join(r.problems[:min(10, len(r.problems))], "\n"))
	}
}
