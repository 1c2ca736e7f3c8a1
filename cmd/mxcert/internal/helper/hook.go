package helper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/hooks/script"
)

// Event is what has happened to a certificate, for the operator's hooks.
type Event struct {
	Name      string         // pre, deploy, post or fail
	Changed   bool           // whether this pass changed what is in service
	Bundle    *bundle.Bundle // nil before the first certificate
	Directory string         // of the bundle's files
	Failure   *Failure       // of fail: what failed
}

// describe returns what hooks see of the event. The names come from the configuration and the certificate, the texts of a failure from the service.
func (e Event) describe(want wanted.Certificate) script.Event {
	seen := script.Event{Event: e.Name, Name: want.Name, Domains: want.Names, LeftOut: []string{}, Changed: e.Changed}
	if e.Bundle != nil {
		seen.Domains, seen.LeftOut = split(want, e.Bundle)
		seen.Fullchain, seen.PrivateKey = filepath.Join(e.Directory, "fullchain.pem"), filepath.Join(e.Directory, "privkey.pem")
		seen.Serial, seen.NotAfter = e.Bundle.Serial(), e.Bundle.NotAfter().UTC()
	}
	if e.Failure != nil {
		f := e.Failure.bounded()
		seen.Stage, seen.Error, seen.Hint = f.Stage, f.Message, f.Hint
	}
	return seen
}

// split returns the configured names, and the optional ones among them that a certificate does not have, apart.
func split(want wanted.Certificate, b *bundle.Bundle) (names, leftOut []string) {
	names, leftOut = want.Required(), []string{}
	for _, name := range want.Optional {
		if slices.Contains(b.Leaf().DNSNames, name) || b.Leaf().VerifyHostname(name) == nil {
			names = append(names, name)
		} else {
			leftOut = append(leftOut, name)
		}
	}
	for _, name := range want.NamesOf(b) { // the others are names that looks at MX records had found
		if !slices.Contains(want.Names, name) {
			names = append(names, name)
		}
	}
	return names, leftOut
}

// serveHook runs the hooks of one event.
func serveHook(ctx context.Context, host *wanted.Host, conn *wire.Conn) error {
	var order json.RawMessage
	first, cancel := context.WithTimeout(ctx, firstOrder)
	defer cancel()
	if err := conn.Read(first, &order); err != nil {
		return fmt.Errorf("no order: %w", err)
	}
	result, refused := obeyHook(ctx, host, order)
	err := errors.Join(refused, answer(ctx, conn, result))
	if err == nil && isMail(host, order) {
		awaitDelivery(ctx)
	}
	return err
}

// obeyHook carries out one order. refused says why it was not one that this helper obeys.
func obeyHook(ctx context.Context, host *wanted.Host, order []byte) (result hookAnswer, refused error) {
	parsed, err := parseHook(order)
	if err != nil {
		return hookAnswer{Error: newError(err)}, err
	}
	if parsed.Event == eventNotify {
		return obeyNotify(ctx, host, parsed)
	}
	want, event, err := readEvent(host, parsed)
	if err != nil {
		return hookAnswer{Error: newError(err)}, err
	}
	outcomes, err := runOnCopies(ctx, want, event)
	return hookAnswer{Outcomes: outcomes, Error: newError(err)}, nil
}

// parseHook reads an order. What it says more than an order has is refused.
func parseHook(text []byte) (order hookOrder, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&order); err != nil {
		return order, &Error{Message: fmt.Sprintf("this is not an order for hooks: %.200v", err), KindText: Failed,
			NextStep: "if mxcert has just been updated: systemctl restart mxcert.service"}
	}
	return order, nil
}

// readEvent accepts an order for a configured certificate. It takes from the order which event it is and whether the pass changed
// something, a bundle that it has proven, and for fail three bounded texts, which hooks know to be text from the service. An order that
// says more is refused: hooks believe what they are told, as root.
func readEvent(host *wanted.Host, order hookOrder) (want wanted.Certificate, event Event, err error) {
	want, configured := host.Certificate(order.Name)
	switch {
	case !slices.Contains([]string{"pre", "deploy", "post", "fail"}, order.Event):
		return want, event, fmt.Errorf("there is no event %.40q", order.Event)
	case !configured:
		return want, event, fmt.Errorf("the configuration has no certificate %.80q", order.Name)
	case order.Message != nil:
		return want, event, errors.New("hooks take no message")
	case order.Failure != nil && order.Event != "fail":
		return want, event, fmt.Errorf("hooks of %s take no failure", order.Event)
	}
	event = Event{Name: order.Event, Changed: order.Changed, Failure: order.Failure}
	before := order.Event == "pre" || order.Event == "fail" // of these, a certificate that is missing or has expired is the reason
	if order.Bundle.Chain == "" && order.Bundle.Key == "" {
		if !before {
			err = fmt.Errorf("hooks of %s need a certificate that is for a name of %s", order.Event, want.Name)
		}
		return want, event, err
	}
	event.Bundle, err = proven(want, order.Bundle, want.Keys...)
	if err == nil && !before {
		err = unexpired(event.Bundle)
	}
	return want, event, err
}

// runOnCopies runs the hooks of an event. They see copies of the proven files in a directory that belongs to root: a file that the
// service has written may be a link to any other.
func runOnCopies(ctx context.Context, want wanted.Certificate, event Event) (outcomes []Outcome, err error) {
	if event.Bundle == nil {
		return runHere(ctx, want, event)
	}
	dir, err := os.MkdirTemp(os.Getenv("RUNTIME_DIRECTORY"), "mxcert-hook-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	copies := state.New(disk.At(dir)).Lineage(want.Name)
	names, _ := split(want, event.Bundle)
	made, err := copies.Add(event.Bundle, names, "", "", time.Now())
	if err != nil {
		return nil, err
	}
	event.Directory = copies.Directory(made.ID)
	return runHere(ctx, want, event)
}

// runHere runs the hooks of an event in this process.
func runHere(ctx context.Context, want wanted.Certificate, event Event) ([]Outcome, error) {
	outcomes, err := script.Run(ctx, hooksOf(want, event.Name), event.describe(want), want.HookTimeout)
	list := make([]Outcome, len(outcomes))
	for i, o := range outcomes {
		list[i] = Outcome{Hook: o.Hook, Skipped: o.Skipped, Failed: o.Err != nil, Duration: o.Duration}
	}
	return list, err
}

// hooksOf returns the directory of the hooks for an event.
func hooksOf(want wanted.Certificate, event string) string {
	return filepath.Join(want.HookDirectory, event+".d")
}
