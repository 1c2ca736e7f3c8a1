package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"time"
)

// scrapePause is how often something scrapes the metrics.
const scrapePause = 15 * time.Second

// told measures the same daemon with nothing on that tells people, with everything on, and with everything on while something scrapes it as
// Prometheus does. only is how many certificates they have; 0: 1, 100 and 1,000.
func told(ctx context.Context, program string, rest time.Duration, only int) error {
	fmt.Printf("%-28s %9s %9s %12s %12s %9s %9s\n", "", "RSS", "anonymous", "CPU/minute", "wake-ups/min", "RSS", "wake-ups")
	list := []int{1, 100, 1000}
	if only > 0 {
		list = []int{only}
	}
	for _, n := range list {
		if err := toldBy(ctx, n, program, rest); err != nil {
			return err
		}
	}
	return nil
}

func toldBy(ctx context.Context, n int, program string, rest time.Duration) error {
	w, err := newWorld(ctx, n)
	if err != nil {
		return err
	}
	defer w.Close() //nolint:errcheck // the measurement is over
	if err := w.issue(ctx, program); err != nil {
		return err
	}
	silent, err := w.run(ctx, program, rest, nil)
	if err != nil {
		return err
	}
	silent[0].print(fmt.Sprintf("%d, nothing on", n), silent[0])
	page, stop, err := w.tell(ctx)
	if err != nil {
		return err
	}
	defer stop()
	loud, err := w.run(ctx, program, rest, func(ctx context.Context) { scrape(ctx, page) })
	if err != nil {
		return err
	}
	loud[0].print(fmt.Sprintf("%d, everything on", n), silent[0])
	loud[1].print(fmt.Sprintf("%d, everything on, scraped", n), silent[0])
	return nil
}

// rested is what a daemon needs in a minute of rest.
type rested struct {
	usage
	cpu     float64 // ms
	wakeups float64
}

func (r rested) print(name string, than rested) {
	fmt.Printf("%-28s %5.1f MiB %5.1f MiB %9.2f ms %12.0f %9.2f %9.2f\n", name, mib(r.rss), mib(r.anonymous), r.cpu, r.wakeups,
		float64(r.rss)/float64(than.rss), r.wakeups/than.wakeups)
}

// run starts a daemon and measures it at rest, and once more while something else is done.
func (w *world) run(ctx context.Context, program string, rest time.Duration, while func(context.Context)) (list []rested, err error) {
	s, err := start(ctx, program, "-c", w.config, "run")
	if err != nil {
		return nil, err
	}
	defer s.stop() //nolint:errcheck // the measurement is over
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	r, err := s.rest(ctx, rest)
	if err != nil || while == nil {
		return []rested{r}, err
	}
	whileCtx, stop := context.WithCancel(ctx)
	defer stop()
	go while(whileCtx)
	other, err := s.rest(ctx, rest)
	return []rested{r, other}, err
}

// rest measures the daemon for a while.
func (s *service) rest(ctx context.Context, rest time.Duration) (r rested, err error) {
	before, err := s.usage()
	if err != nil {
		return r, err
	}
	select {
	case <-ctx.Done():
		return r, ctx.Err()
	case <-time.After(rest):
	}
	r.usage, err = s.usage()
	minutes := rest.Minutes()
	r.cpu, r.wakeups = milliseconds(r.usage.cpu-before.cpu)/minutes, float64(r.usage.wakeups-before.wakeups)/minutes
	return r, err
}

// tell switches on what tells people and needs no service elsewhere. The logs of certificate transparency are one: the daemon would ask for a
// name of each certificate in turn, as often as the service permits, and never rest.
func (w *world) tell(ctx context.Context) (page string, stop func(), err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address := l.Addr().String()
	_ = l.Close() // the daemon takes it
	text, err := os.ReadFile(w.config)
	if err != nil {
		return "", nil, err
	}
	drop := w.Path("tlsrpt")
	if err := os.MkdirAll(drop, 0o700); err != nil {
		return "", nil, err
	}
	people := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	text = fmt.Appendf(text, "\nmetrics: {listen: %q, textfile: %q}\n", address, w.Path("mxcert.prom"))
	text = fmt.Appendf(text, "report: {html: %q}\ntlsrpt: {directory: %q}\n", w.Path("page.html"), drop)
	text = fmt.Appendf(text, "notify:\n  - {name: chat, webhook: {url: %q, body: json}}\n  - {name: page, exec: /bin/true}\n  - {name: alive, ping: %q}\n", people.URL+"/chat", people.URL+"/ping")
	if err := os.WriteFile(w.config, text, 0o600); err != nil {
		people.Close()
		return "", nil, err
	}
	return "http://" + address + "/metrics", people.Close, nil
}

// scrape reads a page at once and then again and again, until ctx ends.
func scrape(ctx context.Context, page string) {
	for tick := time.NewTicker(scrapePause); ; {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
		if err != nil {
			return
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			_, _ = io.Copy(io.Discard, answer.Body) // it is only read
			_ = answer.Body.Close()
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}
