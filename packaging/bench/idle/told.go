package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// told measures daemons that tell nobody, and daemons that tell everybody. With metrics, something scrapes them every fifteen seconds, as
// Prometheus does.
func told(ctx context.Context, program string, rest time.Duration) error {
	for _, n := range []int{1, 100, 1000} {
		for _, on := range []bool{false, true} {
			w, err := newWorld(ctx, n)
			if err != nil {
				return err
			}
			name, stop := fmt.Sprintf("%d, nothing on", n), func() {}
			if on {
				name = fmt.Sprintf("%d, everything on", n)
				if stop, err = w.tell(ctx); err != nil {
					return err
				}
			}
			err = w.measure(ctx, name, program, rest)
			stop()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// tell switches on what the configuration can switch on without a service elsewhere, and scrapes the metrics until stop.
func (w *world) tell(ctx context.Context) (stop func(), err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	_ = l.Close() // the daemon takes it
	text, err := os.ReadFile(w.config)
	if err != nil {
		return nil, err
	}
	text = fmt.Appendf(text, "\nmetrics: {listen: %q, textfile: %q}\n", address, w.Path("mxcert.prom"))
	if err := os.WriteFile(w.config, text, 0o600); err != nil {
		return nil, err
	}
	ctx, stop = context.WithCancel(ctx)
	go scrape(ctx, "http://"+address+"/metrics")
	return stop, nil
}

// scrape reads a page until ctx ends. The daemon may not answer yet.
func scrape(ctx context.Context, page string) {
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, strings.NewReader(""))
		if err != nil {
			return
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			_, _ = io.Copy(io.Discard, answer.Body) // it is only read
			_ = answer.Body.Close()
		}
	}
}
