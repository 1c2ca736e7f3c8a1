package helper

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/cmd/mxcert/internal/wire"
)

// serveHook runs the hooks of one event.
func serveHook(ctx context.Context, host *wanted.Host, conn *wire.Conn) error {
	var order hookOrder
	first, cancel := context.WithTimeout(ctx, firstOrder)
	defer cancel()
	if err := conn.Read(first, &order); err != nil {
		return fmt.Errorf("no order: %w", err)
	}
	want, err := checkEvent(host, order)
	if err != nil {
		return errors.Join(err, answer(ctx, conn, hookAnswer{Error: newError(err)}))
	}
	outcomes, err := runHere(ctx, want, order.Event)
	return answer(ctx, conn, hookAnswer{Outcomes: outcomes, Error: newError(err)})
}

// checkEvent refuses an event for a certificate that is not configured, and paths outside the state directory.
func checkEvent(host *wanted.Host, order hookOrder) (wanted.Certificate, error) {
	e := order.Event
	want, configured := host.Certificate(e.Name)
	switch {
	case !slices.Contains([]string{"pre", "deploy", "post", "fail"}, e.Event):
		return want, fmt.Errorf("there is no event %q", e.Event)
	case !configured:
		return want, fmt.Errorf("the configuration has no certificate %q", e.Name)
	}
	for _, path := range []string{e.Fullchain, e.PrivateKey} {
		if path != "" && (filepath.Clean(path) != path || !strings.HasPrefix(path, filepath.Join(host.State, "lineages", e.Name)+"/")) {
			return want, fmt.Errorf("%q is not a file of certificate %s", path, e.Name)
		}
	}
	return want, nil
}
