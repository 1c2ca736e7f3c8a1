package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/wanted"
)

// Probed is what a look at the store of a fleet has shown. Nothing is written for it.
type Probed struct {
	Cluster string // what names the cluster; "" if it did not answer
	Err     error  // why it cannot be used: it is away, or its role does not allow to read or to write below the prefix; nil if it can
	Beyond  bool   // the role allows to read what is outside of the prefix, or the cluster asks for no roles

	ClockKnown bool
	Clock      time.Duration // how far this host's clock is ahead of the clock of the first member that answers
}

// Probe asks the cluster who it is, and what this host may do there.
func Probe(ctx context.Context, f *wanted.Fleet) Probed {
	var p Probed
	p.Clock, p.ClockKnown = clock(ctx, f)
	shared, err := open(f, Prefix(f.Name))
	if err != nil {
		p.Err = err
		return p
	}
	defer func() { _ = shared.Close() }()
	if p.Cluster, p.Err = shared.Identity(ctx); p.Err == nil {
		p.Err = allowed(ctx, shared)
	}
	if p.Err == nil {
		p.Beyond = beyond(ctx, f)
	}
	return p
}

// allowed reports whether this host may read and write below the prefix. The write is one whose condition never holds: the store looks at the
// role first.
func allowed(ctx context.Context, shared state.Shared) error {
	const key = "cluster"
	if _, err := shared.Get(ctx, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := shared.Swap(ctx, key, math.MaxInt64, nil); err != nil && !errors.Is(err, state.ErrChanged) {
		return err
	}
	return nil
}

// beyond reports whether this host may read the keys of a fleet that it is not in.
func beyond(ctx context.Context, f *wanted.Fleet) bool {
	other, err := open(f, Prefix(f.Name+"-another"))
	if err != nil {
		return false
	}
	defer func() { _ = other.Close() }()
	_, err = other.Get(ctx, "cluster")
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

// clockPatience limits the question for a member's time.
const clockPatience = 3 * time.Second

// clock compares the clock of this host with that of a member, by the date that its HTTP server says. It has whole seconds.
func clock(ctx context.Context, f *wanted.Fleet) (ahead time.Duration, known bool) {
	secure, err := f.TLS()
	if err != nil {
		return 0, false
	}
	transport := &http.Transport{TLSClientConfig: secure, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	for _, endpoint := range f.Endpoints {
		if ahead, err := clockOf(ctx, &http.Client{Transport: transport, Timeout: clockPatience}, endpoint); err == nil {
			return ahead, true
		}
	}
	return 0, false
}

func clockOf(ctx context.Context, client *http.Client, endpoint string) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/version", nil)
	if err != nil {
		return 0, fmt.Errorf("ask %s for its time: %v", endpoint, err)
	}
	before := time.Now()
	answer, err := client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("ask %s for its time: %v", endpoint, err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<10)) // only the date matters
	date, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return 0, fmt.Errorf("ask %s for its time: %v", endpoint, err)
	}
	return before.Sub(date.Add(time.Second / 2)), nil
}
