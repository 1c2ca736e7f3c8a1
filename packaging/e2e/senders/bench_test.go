package senders

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/packaging/e2e/world"
)

// Greeting delays: one host of each domain is slow.
const (
	ordinary = 300 * time.Millisecond
	slow     = 2 * time.Second
)

// most is the number of endpoints of the largest domain.
const most = 200

// BenchmarkVerify compares, in one run, a look at domains of 1, 20 and 200 endpoints with a look at the slowest of them, and with one
// posttls-finger for each address, all at once. It counts the questions that reach the resolver, and the peak of memory.
//
// posttls-finger makes one connection, so it is compared with --connections 1; by default mxcert makes four, one after the other. It gets
// the addresses, and asks nothing.
func BenchmarkVerify(b *testing.B) {
	w := newTown(b)
	w.serveMany()
	var peaks [3]float64
	sizes := []int{1, 20, most}
	for i, n := range sizes {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				w.measure(b, n, &peaks[i])
			}
		})
	}
	b.Logf("memory per endpoint: %.0f KiB from 1 to 20, %.0f KiB from 20 to 200", (peaks[1]-peaks[0])/19, (peaks[2]-peaks[1])/180)
}

// measure takes each time in turn.
func (w *town) measure(b *testing.B, n int, peak *float64) {
	w.timed("unbound-control -c /etc/world/unbound.conf flush_zone example.org")
	domain := fmt.Sprintf("n%d.example.org", n)
	slowest := w.timed("mxcert -q verify --host solo.example.org")
	w.timed("mxcert -q verify --domain " + domain) // so that what Unbound knows is the same for all
	asked := w.questions()
	whole := w.timed("mxcert -q verify --domain " + domain)
	asked = w.questions() - asked
	once := w.timed("mxcert -q verify --connections 1 --domain " + domain)
	fingers := w.timed(fmt.Sprintf("for i in $(seq 1 %d); do posttls-finger -l may '[198.18.0.'$i']' >/dev/null & done; wait", n))
	kib, seconds := w.cost("mxcert", "-q", "verify", "--domain", domain)
	*peak = max(*peak, kib)
	least := float64(2 + 3*max(1, n/2)) // MX and the policy's TXT; A, AAAA and TLSA of each host
	b.ReportMetric(whole.Seconds()/slowest.Seconds(), "slowest")
	b.ReportMetric(once.Seconds()/fingers.Seconds(), "fingers")
	b.ReportMetric(float64(asked)/least, "questions/least")
	b.ReportMetric(*peak/1024, "MiB")
	b.ReportMetric(seconds, "cpu-s")
	b.ReportMetric(whole.Seconds(), "s")
	b.ReportMetric(0, "ns/op")
}

// timed runs a line that must succeed.
func (w *town) timed(line string) time.Duration {
	w.t.Helper()
	began := time.Now()
	if _, err := w.Sender.Must(w.t.Context(), "sh", "-c", line); err != nil {
		w.t.Fatal(err)
	}
	return time.Since(began)
}

// questions counts what clients have asked Unbound.
func (w *town) questions() int {
	w.t.Helper()
	out, err := w.Sender.Must(w.t.Context(), "unbound-control", "-c", "/etc/world/unbound.conf", "stats_noreset")
	w.check(err)
	for line := range strings.Lines(out) {
		if count, found := strings.CutPrefix(strings.TrimSpace(line), "total.num.queries="); found {
			n, err := strconv.Atoi(count)
			w.check(err)
			return n
		}
	}
	w.t.Fatalf("unbound counts nothing:\n%s", out)
	return 0
}

// cost is the peak of memory of a program, in KiB, and the seconds of processor time that it takes.
func (w *town) cost(argv ...string) (kib, seconds float64) {
	w.t.Helper()
	const script = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); u = resource.getrusage(resource.RUSAGE_CHILDREN); print(u.ru_maxrss, u.ru_utime + u.ru_stime)"
	out, err := w.Sender.Must(w.t.Context(), append([]string{"python3", "-c", script}, argv...)...)
	w.check(err)
	_, err = fmt.Sscan(out, &kib, &seconds)
	w.check(err)
	return kib, seconds
}

// serveMany adds 100 hosts with two addresses each to example.org (BIND has at most 100 MX records), each with a server of its own, and the
// domains n1, n20 and n200. The first address is slow; the host solo has no other.
func (w *town) serveMany() {
	w.t.Helper()
	cert := w.issuer.Issue(w.t, 90*24*time.Hour, "*.example.org")
	digest := sha256.Sum256(cert.Leaf().RawSubjectPublicKeyInfo)
	tlsa := "TLSA 3 1 1 " + hex.EncodeToString(digest[:])
	var records strings.Builder
	fmt.Fprintf(&records, "n1 MX 10 solo\nsolo A 198.18.0.1\n_25._tcp.solo %s\n", tlsa)
	for i := range most / 2 {
		for k := 2*i + 1; k <= 2*i+2; k++ {
			address := fmt.Sprintf("198.18.0.%d", k)
			fmt.Fprintf(&records, "mx%d A %s\n", i, address)
			w.check(w.Receiver.AddAddress(address + "/16"))
			w.serveMail(cert, address)
			w.SMTP[address].SetFaults(smtpd.Faults{GreetingDelay: ordinary})
		}
		fmt.Fprintf(&records, "_25._tcp.mx%d %s\nn200 MX 10 mx%[1]d\n", i, tlsa)
		if i < 10 {
			fmt.Fprintf(&records, "n20 MX 10 mx%d\n", i)
		}
	}
	w.SMTP["198.18.0.1"].SetFaults(smtpd.Faults{GreetingDelay: slow})
	z := w.zone("")
	w.check(w.DNS.Edit(w.t.Context(), world.Zone{Name: z.Name, Records: z.Records + records.String()}))
}
