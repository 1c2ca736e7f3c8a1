package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// fewFaults are those of a run that has to be short.
const fewFaults = 8

// long reports whether this run may take its time.
func long(t testing.TB) bool { return number(t, "MXCERT_FLEET_FAULTS", fewFaults) > fewFaults }

// MXCERT_FLEET_FAULTS faults (8) come at random moments of orders, changes of keys and deployments. Senders never miss a certificate, no host goes
// back to an older one, and two orders never live at once; after each fault all hosts come to serve the newest certificate.
func (w *town) storm(t *testing.T) {
	count := number(t, "MXCERT_FLEET_FAULTS", fewFaults)
	seed := uint64(number(t, "MXCERT_FLEET_SEED", int(time.Now().UnixNano()%1e9)))
	fmt.Fprintf(os.Stdout, "figure: %s: seed %d\n", t.Name(), seed)
	pick := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // a test
	order := pick.Perm(len(faults))
	for n := range count {
		f := faults[order[n%len(order)]]
		w.round(t, f, pick)
		if t.Failed() {
			t.Fatalf("after %d of %d faults, seed %d", n+1, count, seed)
		}
	}
	figure(t, "%d faults with real processes, seed %d", count, seed)
}

// round is one fault: something is begun, the fault comes, is healed, and everything becomes as it should be.
func (w *town) round(t *testing.T, f fault, pick *rand.Rand) {
	t.Helper()
	ctx := t.Context()
	h, moment := w.anyHost(pick), moments[pick.IntN(len(moments))]
	delay, hold := scale(pick, moment.at), 500*time.Millisecond+scale(pick, 4*time.Second)
	if long(t) && pick.IntN(10) == 0 {
		hold += 35 * time.Second // longer than a lock outlives its holder
	}
	began := time.Now()
	action, ended := w.action(ctx, pick, h)
	if moment.step != "" && action != "deploy mx" { // which orders nothing
		w.orders.saw(ctx, moment.step, began)
	}
	pause(ctx, delay)
	at, heal, err := f.hurt(ctx, w, pick)
	if err != nil {
		t.Errorf("%s (%s): %v", f.name, at, err)
	}
	hurt := time.Since(began)
	pause(ctx, hold)
	if err := heal(); err != nil {
		t.Errorf("%s (%s), healing: %v", f.name, at, err)
	}
	result := <-ended
	said := result.said
	err = w.settled(ctx)
	if err == nil && result.failed {
		// What the fault has prevented can be had now.
		if err = w.again(ctx, h, result.command); err == nil {
			err = w.settled(ctx)
		}
	}
	if err != nil {
		t.Errorf("%s (%s) for %v, %s of %s on %s: %v\n%s", f.name, at, hold.Round(time.Millisecond), moment.name, action, h.name, err, said)
		w.tell()
	}
	t.Logf("%v: %s (%s) for %v, %v after the beginning (%s) of %s on %s; all well again %v later: %s", time.Since(w.began).Round(time.Second), f.name, at, hold.Round(time.Millisecond),
		hurt.Round(time.Millisecond), moment.name, action, h.name, (time.Since(began) - hurt).Round(100*time.Millisecond), said)
}

// outcome is how a command ended.
type outcome struct {
	command []string
	failed  bool
	said    string
}

// action begins something on a host: an order, a change of keys or a deployment. It may fail: the fault may meet it.
func (w *town) action(ctx context.Context, pick *rand.Rand, h *host) (name string, ended chan outcome) {
	commands := [][]string{{"renew", "--now", "mx"}, {"renew", "--now", "mx"}, {"deploy", "mx"}}
	if w.dane {
		commands = append(commands, []string{"tlsa", "roll", "mx"}, []string{"tlsa", "roll", "mx"})
	}
	command := commands[pick.IntN(len(commands))]
	ended = make(chan outcome, 1)
	go func() { ended <- h.command(ctx, command) }()
	return command[0] + " " + command[1], ended
}

// command runs mxcert.
func (h *host) command(ctx context.Context, arguments []string) outcome {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	r, err := h.Run(ctx, append([]string{"mxcert"}, arguments...)...)
	return outcome{arguments, err != nil || r.Code != 0, fmt.Sprintf("exit status %d, %v: %s", r.Code, err, tail(r.Stdout+r.Stderr, 4))}
}

// again repeats a command until it succeeds.
func (w *town) again(ctx context.Context, h *host, command []string) error {
	return wait(ctx, laterLimit, func() error {
		if o := h.command(ctx, command); o.failed {
			return fmt.Errorf("again: mxcert %v: %s", command, o.said)
		}
		return nil
	})
}

// settled waits until all members and hosts are well and all hosts serve the newest certificate that the authority gave out.
func (w *town) settled(ctx context.Context) error {
	if err := w.etcdReady(ctx); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	return wait(ctx, laterLimit, func() error {
		serial, err := w.agreed(5*time.Second, "", w.hosts...)
		if err != nil {
			return err
		}
		if n, _ := w.orders.rank(serial); n != len(w.orders.issued())-1 {
			return fmt.Errorf("all hosts serve %s, which is number %d of %d", serial, n+1, len(w.orders.issued()))
		}
		return w.well(ctx)
	})
}

// well checks what the hosts say of the fleet: every daemon is at work and in reach of etcd, and no generation that a host has is older than
// what it had before.
func (w *town) well(ctx context.Context) error {
	for _, h := range w.hosts {
		status, err := w.fleetStatus(ctx, h)
		if err != nil {
			return err
		}
		if err := status.wrong(len(w.hosts)); err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
		for _, c := range status.Certificates {
			if before := w.generations[c.Name+" "+c.Key]; c.Generation < before {
				w.t.Errorf("%s: %s %s: generation %d after %d", h.name, c.Name, c.Key, c.Generation, before)
			}
			w.generations[c.Name+" "+c.Key] = c.Generation
		}
	}
	return nil
}

// tell shows the orders, for a failure.
func (w *town) tell() {
	w.t.Helper()
	for _, o := range w.orders.list() {
		w.t.Logf("order %s of %v: %s to %s, finalized %s, serial %s", o.id, o.hosts, clock(o.made), clock(o.last), clock(o.finalized), o.serial)
	}
}

// scale is a random part of a time.
func scale(pick *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(pick.Int64N(int64(most) + 1))
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
