package acme_test

import (
	"crypto/x509"
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
	"mxcert/acme/state/disk"
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

// BenchmarkOrder compares the orders of a new process with the yardstick, in turns, so that both have the same machine.
// The account exists, and so does what earlier orders told about the CA; directory, connection, nonces and the resolver's
// memory are new. It reports
//
//	wall/bare       median ratio of the times, to a yardstick that fetches eight nonces; least/bare: of the least times
//	wall/thrifty    the same, to a yardstick that makes do with three nonces, as mxcert does (nonces.go)
//	requests        to the CA, directory and nonces among them; bare-requests, thrifty-requests: the yardsticks'
//	over-2n+9       requests above the goal
//	updates/zone    UPDATE messages to make and remove the records
//	dns-messages    questions and updates; the CA's own are not counted
//	cpu-ms          of the whole process, in which CA and name servers run too; bare-cpu-ms: with the yardstick
//	wall-ms         of an order
func BenchmarkOrder(b *testing.B) { eachCell(b, false) }

// BenchmarkNextOrder is the same for orders that one client places one after another, as the daemon and its renewals do:
// the directory, the connection and the nonces are there, for the yardstick too.
func BenchmarkNextOrder(b *testing.B) { eachCell(b, true) }

func eachCell(b *testing.B, stay bool) {
	for _, n := range []int{2, 10, 100} {
		for _, p := range paces() {
			b.Run(fmt.Sprintf("names=%d/%s", n, p.name), func(b *testing.B) {
				r := newRace(b, n, p, stay)
				for b.Loop() {
					r.round(b)
				}
				r.report(b)
			})
		}
	}
}

// race is a lab in which mxcert and two yardsticks order in turns.
type race struct {
	*world
	stay    bool // clients and yardsticks are used again
	roots   *x509.CertPool
	client  *acme.Client
	store   *state.Book
	account *yardstick
	bare    runner
	thrifty runner
	ours    runner

	rounds            int
	messages, updates int
}

type runner struct {
	lanes    int
	standing *yardstick
	costs    []cost
	requests int
}

type cost struct{ wall, cpu time.Duration }

func newRace(b *testing.B, n int, p pace, stay bool) *race {
	b.Helper()
	r := &race{world: newWorld(b, lab.Options{Secondaries: 1}), stay: stay, bare: runner{lanes: 8}, thrifty: runner{lanes: 3}}
	r.Names = nil
	for i := range n {
		r.Names = append(r.Names, fmt.Sprintf("host%d.example.org", i))
	}
	var err error
	if r.roots, err = pool(r.CAFile); err != nil {
		b.Fatal(err)
	}
	r.account = r.yardstick(1)
	if err := r.account.register(b.Context()); err != nil {
		b.Fatal(err)
	}
	r.keep(b, r.account)
	if r.client, r.store, err = r.world.client(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.client.Close)
	r.slow(p)
	for range 6 { // what a CA takes is learned by then
		r.runOurs(b)
	}
	for _, runner := range []*runner{&r.bare, &r.thrifty} {
		r.runBare(b, runner)
		runner.costs, runner.requests = nil, 0
	}
	r.ours, r.messages, r.updates = runner{}, 0, 0
	return r
}

func (r *race) yardstick(lanes int) *yardstick {
	y := newYardstick(r.CA.DirectoryURL(), r.roots, lanes)
	y.server, y.tsigName, y.tsig, y.zone = r.Primary.Address(), lab.KeyName, r.TSIG, lab.Zone
	return y
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
		if ofCA(request.RecursionDesired, request.Question[0].Qtype) {
			time.Sleep(p.validation)
		}
		return reply
	}
	w.Primary.SetFaults(faults)
}

// ofCA knows the questions of the CA's validation: nobody else asks a resolver for TXT.
func ofCA(recursive bool, qtype uint16) bool { return recursive && qtype == dns.TypeTXT }

func (r *race) round(b *testing.B) {
	b.Helper()
	runs := []func(){func() { r.runBare(b, &r.bare) }, func() { r.runBare(b, &r.thrifty) }, func() { r.runOurs(b) }}
	for i := range runs { // each goes first as often as the others
		runs[(i+r.rounds)%len(runs)]()
	}
	r.rounds++
}

func (r *race) runBare(b *testing.B, runner *runner) {
	b.Helper()
	y := runner.standing
	if y == nil {
		y = r.yardstick(runner.lanes)
		y.key, y.kid = r.account.key, r.account.kid
		if r.stay {
			runner.standing = y
			b.Cleanup(y.close)
		} else {
			defer y.close()
		}
	}
	issued := len(r.CA.Issued())
	before := y.requests.Load()
	runner.costs = append(runner.costs, measure(func() {
		if err := y.order(b.Context(), r.Names); err != nil {
			b.Fatal(err)
		}
	}))
	if len(r.CA.Issued()) != issued+1 {
		b.Fatal("no certificate")
	}
	runner.requests += int(y.requests.Load() - before)
	for _, name := range r.Names {
		if err := r.World.Remove("_acme-challenge." + name); err != nil {
			b.Fatal(err)
		}
	}
}

func (r *race) runOurs(b *testing.B) {
	b.Helper()
	r.CA.ResetRequests()
	r.World.ResetLog()
	var issued *acme.Issued
	r.ours.costs = append(r.ours.costs, measure(func() {
		var err error
		edit := func(q *acme.Request) { q.Urgent = true }
		if r.stay {
			issued, err = r.issueBy(b.Context(), r.client, r.store, edit)
		} else {
			issued, err = r.issue(b.Context(), edit)
		}
		if err != nil {
			b.Fatal(err)
		}
	}))
	if len(issued.Bundle.Leaf().DNSNames) != len(r.Names) || len(r.World.Challenges()) != 0 {
		b.Fatalf("%d names, left %v", len(issued.Bundle.Leaf().DNSNames), r.World.Challenges())
	}
	if err := r.lineage(b).DropOrder(bundle.EC256); err != nil { // as a caller does that has stored it
		b.Fatal(err)
	}
	r.ours.requests += r.CA.Count()
	r.messages += r.asked()
	r.updates += r.World.UpdateCount(lab.Zone)
}

// keep stores the yardstick's account as mxcert's.
func (s setup) keep(t testing.TB, y *yardstick) {
	t.Helper()
	store, err := state.Open(disk.Open(s.State))
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
	questions := slices.DeleteFunc(w.World.Queries(), func(q nameserver.Query) bool { return ofCA(q.RD, q.Type) })
	return len(questions) + len(w.World.Updates())
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
	b.ReportMetric(median(r.ours.costs, r.bare.costs, cost.time), "wall/bare")
	b.ReportMetric(least(r.ours.costs)/least(r.bare.costs), "least/bare")
	b.ReportMetric(median(r.ours.costs, r.thrifty.costs, cost.time), "wall/thrifty")
	b.ReportMetric(float64(r.ours.requests)/rounds, "requests")
	b.ReportMetric(float64(r.ours.requests)/rounds-(2*n+9), "over-2n+9")
	b.ReportMetric(float64(r.bare.requests)/rounds, "bare-requests")
	b.ReportMetric(float64(r.thrifty.requests)/rounds, "thrifty-requests")
	b.ReportMetric(float64(r.updates)/rounds, "updates/zone")
	b.ReportMetric(float64(r.messages)/rounds, "dns-messages")
	b.ReportMetric(median(r.ours.costs, nil, cost.work), "cpu-ms")
	b.ReportMetric(median(r.bare.costs, nil, cost.work), "bare-cpu-ms")
	b.ReportMetric(median(r.ours.costs, nil, cost.time), "wall-ms")
	b.ReportMetric(0, "ns/op") // of all three together: it says nothing
}

func (c cost) time() float64 { return float64(c.wall) / float64(time.Millisecond) }
func (c cost) work() float64 { return float64(c.cpu) / float64(time.Millisecond) }

func least(costs []cost) float64 {
	return slices.MinFunc(costs, func(a, b cost) int { return int(a.wall - b.wall) }).time()
}

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
