// Command idle measures what the service costs while it has nothing to do. For comparison it also measures Caddy, which manages one name.
//
// It starts the daemon and Caddy as systemd would, with certificates from a Pebble in this process. The first of mxcert's certificates is
// proven at an SMTP server; the others are pairs of files. RSS is that of proc_pid_status(5). Its anonymous part belongs to the process;
// the rest are pages of the program that the page cache holds anyway.
//
// packaging/bench/README.md has the results, what the binary contains, and why status is slower than expected. The command sets no limits;
// it only prints figures.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"time"
)

func main() {
	program := flag.String("mxcert", "bin/mxcert", "the `PROGRAM` to measure")
	rest := flag.Duration("rest", time.Minute, "measure the rest for `DURATION`")
	dane := flag.Bool("dane", false, "measure the modes off and publish of dane instead, in signed zones")
	everything := flag.Bool("told", false, "measure with nothing and with everything on that tells people, instead")
	beside := flag.String("beside", "", "measure another `PROGRAM` in turn, with one certificate: mxcert built in another way")
	certificates := flag.Int("certificates", 0, "with -told, measure `N` certificates alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := table(ctx, *program, *rest, *dane, *everything, *certificates, *beside); err != nil {
		fmt.Fprintln(os.Stderr, "idle:", err)
		os.Exit(1)
	}
}

// table prints a line for each service that is measured.
func table(ctx context.Context, program string, rest time.Duration, dane, everything bool, certificates int, beside string) error {
	if everything {
		return told(ctx, program, rest, certificates)
	}
	fmt.Printf("%-24s %9s %9s %9s %12s %12s %10s %9s\n", "", "binary", "RSS", "anonymous", "CPU/minute", "wake-ups/min", "to READY", "status")
	if dane {
		return modes(ctx, program, rest)
	}
	if beside != "" {
		return inTurn(ctx, rest, program, beside)
	}
	for _, n := range []int{1, 100, 1000} {
		w, err := newWorld(ctx, n)
		if err != nil {
			return err
		}
		if err := w.measure(ctx, fmt.Sprintf("mxcert, %d certificates", n), program, rest); err != nil {
			return err
		}
	}
	caddy, err := exec.LookPath("caddy")
	if err != nil {
		fmt.Println("without Caddy: apt-get install caddy")
		return nil
	}
	args, stop, err := newPeer(ctx)
	if err != nil {
		return err
	}
	defer stop() //nolint:errcheck // the measurement is over
	return measure(ctx, "caddy, 1 name", rest, nil, caddy, args...)
}

// inTurn measures programs one after the other, three times.
func inTurn(ctx context.Context, rest time.Duration, programs ...string) error {
	for range 3 {
		for _, program := range programs {
			w, err := newWorld(ctx, 1)
			if err != nil {
				return err
			}
			if err := w.measure(ctx, filepath.Base(program), program, rest); err != nil {
				return err
			}
		}
	}
	return nil
}

// modes measures daemons that do not care for TLSA records, and daemons that publish them.
func modes(ctx context.Context, program string, rest time.Duration) error {
	for _, n := range []int{1, 100} {
		for _, mode := range []string{"off", "publish", "off", "publish"} {
			w, err := newDANEWorld(ctx, n, mode)
			if err != nil {
				return err
			}
			if err := w.measure(ctx, fmt.Sprintf("%d certificates, %s", n, mode), program, rest); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure issues the certificates and measures the daemon. It closes the world.
func (w *world) measure(ctx context.Context, name, program string, rest time.Duration) error {
	defer w.Close() //nolint:errcheck // the measurement is over
	if err := w.issue(ctx, program); err != nil {
		return err
	}
	status := func() error {
		out, err := exec.CommandContext(ctx, program, "-c", w.config, "status").CombinedOutput()
		if err != nil {
			return fmt.Errorf("mxcert status: %w\n%.2000s", err, out)
		}
		return nil
	}
	return measure(ctx, name, rest, status, program, "-c", w.config, "run")
}

// measure starts a service several times to find out how long that takes. It lets the last one rest.
func measure(ctx context.Context, name string, rest time.Duration, status func() error, program string, args ...string) error {
	var s *service
	var starts []time.Duration
	for range 5 {
		if s != nil {
			if err := s.stop(); err != nil {
				return err
			}
		}
		var err error
		if s, err = start(ctx, program, args...); err != nil {
			return err
		}
		starts = append(starts, s.ready)
	}
	defer s.stop() //nolint:errcheck // the measurement is over
	if err := s.settle(ctx); err != nil {
		return err
	}
	before, err := s.usage()
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rest):
	}
	after, err := s.usage()
	if err != nil {
		return err
	}
	looked, err := repeat(5, status)
	if err != nil {
		return err
	}
	info, err := os.Stat(program)
	if err != nil {
		return err
	}
	minute := float64(time.Minute) / float64(rest)
	fmt.Printf("%-24s %5.1f MiB %5.1f MiB %5.1f MiB %9.2f ms %12.0f %7.0f ms %6.0f ms\n", name, mib(info.Size()), mib(after.rss), mib(after.anonymous),
		milliseconds(after.cpu-before.cpu)*minute, float64(after.wakeups-before.wakeups)*minute, milliseconds(median(starts)), milliseconds(looked))
	return nil
}

// repeat returns the median time of several runs.
func repeat(times int, run func() error) (time.Duration, error) {
	if run == nil {
		return 0, nil
	}
	var took []time.Duration
	for range times {
		began := time.Now()
		if err := run(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	return median(took), nil
}

func median(list []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(list))[len(list)/2]
}

func mib(bytes int64) float64              { return float64(bytes) / (1 << 20) }
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
