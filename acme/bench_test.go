package acme_test

import (
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// pace is how slow a CA is.
type pace struct {
	name       string
	validation time.Duration // of one challenge
	request    time.Duration // added to each
}

func paces() []pace {
	return []pace{{name: "instant"}, {name: "slow", validation: time.Second, request: 40 * time.Millisecond}}
}

// BenchmarkOrder compares whole orders with the yardstick, in turns so that both have the same machine. The account exists
// and everything else is new: the directory, the connection, the nonces, what the resolver knows. It reports
//
//	wall/bare       median ratio of the times, to a yardstick that fetches eight nonces
//	wall/thrifty    the same, to a yardstick that is held to three nonces as mxcert is (see lanes)
//	requests        to the CA, directory and nonces among them; bare-requests: the yardstick's
//	over-2n+9       requests above the goal
//	updates/zone    UPDATE messages to make and remove the records
//	dns-messages    questions and updates; the CA's own are not counted
//	cpu-ms          of the whole process, in which CA and name servers run too; bare-cpu-ms: with the yardstick
//	wall-ms, allocs of the whole process
func BenchmarkOrder(b *testing.B) {
	for _, n := range []int{2, 10, 100} {
		for _, p := range paces() {
			b.Run(fmt.Sprintf("names=%d/%s", n, p.name), func(b *testing.B) {
				r := newRace(b, n, p)
				for b.Loop() {
					r.round(b)
				}
				r.report(b)
			})
		}
	}
}

// race is a lab in which mxcert and the yardstick order in turns.
type race struct {
	*world
	rounds                           int
	ours, bare, thrifty              []cost
	requests, messages, updates, all float64
}

type cost struct{ wall, cpu time.Duration }

func newRace(b *testing.B, n int, p pace) *race {
	w := newWorld(b, lab.Options{Secondaries: 1})
	w.Names = nil
	for i := range n {
		w.Names = append(w.Names, fmt.Sprintf("host%d.example.org", i))
	}
	w.slow(p)
	return &race{world: w}
}

// slow puts the delays into the CA's front and into the answers to its validation.
func (w *world) slow(p pace) {
	if p.request > 0 {
		w.CA.SetWrap(func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				time.Sleep(p.request)
				inner.ServeHTTP(rw, r)
			})
		})
	}
	faults := w.Primary.Faults()
	faults.Edit = func(request, reply *dns.Msg) *dns.Msg {
		if question := request.Question[0]; question.Qtype == dns.TypeTXT && request.RecursionDesired { // nobody else asks so
			time.Sleep(p.validation)
		}
		return reply
	}
	w.Primary.SetFaults(faults)
}

func (r *race) round(b *testing.B) {
	b.Helper()
	roots, err := pool(r.CAFile)
	if err != nil {
		b.Fatal(err)
	}
	runs := []func(){
		func() { r.bare = append(r.bare, r.runBare(b, 8)) },
		func() { r.thrifty = append(r.thrifty, r.runBare(b, 3)) },
		func() {
			account := newYardstick(r.CA.DirectoryURL(), roots, 1)
			if err := account.register(b.Context()); err != nil {
				b.Fatal(err)
			}
			account.close()
			r.ours = append(r.ours, r.runOurs(b, account))
		},
	}
	for i := range runs { // each goes first as often as the others
		runs[(i+r.rounds)%len(runs)]()
	}
	r.rounds++
}

// runBare has the yardstick order with an account that it makes before.
func (r *race) runBare(b *testing.B, lanes int) cost {
	b.Helper()
	roots, err := pool(r.CAFile)
	if err != nil {
		b.Fatal(err)
	}
	account := newYardstick(r.CA.DirectoryURL(), roots, 1)
	defer account.close()
	if err := account.register(b.Context()); err != nil {
		b.Fatal(err)
	}
	y := newYardstick(r.CA.DirectoryURL(), roots, lanes)
	defer y.close()
	y.key, y.kid, y.server, y.tsigName, y.tsig, y.zone = account.key, account.kid, r.Primary.Address(), lab.KeyName, r.TSIG, lab.Zone
	before := len(r.CA.Issued())
	c := measure(func() {
		if err := y.order(b.Context(), r.Names); err != nil {
			b.Fatal(err)
		}
	})
	if len(r.CA.Issued()) != before+1 {
		b.Fatal("no certificate")
	}
	for _, name := range r.Names {
		if err := r.World.Remove("_acme-challenge." + name); err != nil {
			b.Fatal(err)
		}
	}
	if lanes == 8 {
		r.all += float64(y.requests.Load())
	}
	return c
}

// runOurs orders in a state directory that holds the account and nothing else.
func (r *race) runOurs(b *testing.B, y *yardstick) cost {
	b.Helper()
	r.State = b.TempDir()
	r.keep(b, y)
	r.CA.ResetRequests()
	r.World.ResetLog()
	var issued *acme.Issued
	c := measure(func() {
		var err error
		if issued, err = r.issue(b.Context(), func(q *acme.Request) { q.Claim.Urgent = true }); err != nil {
			b.Fatal(err)
		}
	})
	if len(issued.Bundle.Leaf().DNSNames) != len(r.Names) || len(r.World.Challenges()) != 0 {
		b.Fatalf("%d names, left %v", len(issued.Bundle.Leaf().DNSNames), r.World.Challenges())
	}
	r.requests += float64(r.CA.Count())
	r.messages += float64(r.asked())
	r.updates += float64(r.World.UpdateCount(lab.Zone))
	return c
}

// keep stores the yardstick's account as mxcert's.
func (s setup) keep(t testing.TB, y *yardstick) {
	t.Helper()
	store, err := state.Open(s.State)
	if err != nil {
		t.Fatal(err)
	}
	key, err := bundle.MarshalKey(y.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.SaveAccount(state.Account{Directory: s.Directory, URL: y.kid, Key: string(key), Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

// asked counts the DNS messages that were sent, but for the CA's.
func (w *world) asked() int {
	return len(slices.DeleteFunc(w.World.Queries(), func(q nameserver.Query) bool { return q.RD && q.Type == dns.TypeTXT })) + len(w.World.Updates())
}

// measure tells the time and the process's CPU time that f takes.
func measure(f func()) cost {
	cpu, start := processTime(), time.Now()
	f()
	return cost{wall: time.Since(start), cpu: processTime() - cpu}
}

func processTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // with these arguments: never
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func (r *race) report(b *testing.B) {
	rounds, n := float64(r.rounds), float64(len(r.Names))
	b.ReportMetric(median(r.ours, r.bare, cost.time), "wall/bare")
	b.ReportMetric(median(r.ours, r.thrifty, cost.time), "wall/thrifty")
	b.ReportMetric(r.requests/rounds, "requests")
	b.ReportMetric(r.requests/rounds-(2*n+9), "over-2n+9")
	b.ReportMetric(r.all/rounds, "bare-requests")
	b.ReportMetric(r.updates/rounds, "updates/zone")
	b.ReportMetric(r.messages/rounds, "dns-messages")
	b.ReportMetric(median(r.ours, nil, cost.work), "cpu-ms")
	b.ReportMetric(median(r.bare, nil, cost.work), "bare-cpu-ms")
	b.ReportMetric(median(r.ours, nil, cost.time), "wall-ms")
	b.ReportMetric(0, "ns/op") // of both together: it says nothing
}

func (c cost) time() float64 { return float64(c.wall) / float64(time.Millisecond) }
func (c cost) work() float64 { return float64(c.cpu) / float64(time.Millisecond) }

// median of what was measured, or of its ratios to what was measured beside it.
func median(costs, beside []cost, of func(cost) float64) float64 {
	var values []float64
	for i, c := range costs {
		v := of(c)
		if beside != nil {
			v /= of(beside[i])
		}
		values = append(values, v)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
