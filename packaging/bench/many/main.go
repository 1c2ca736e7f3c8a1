// Command many measures one-shot commands over many certificates if there is nothing to do: `renew` and `status` without a daemon.
//
// It compares them with a yardstick that does the least possible work. The yardstick reads each stored and each deployed pair with the
// standard library, checks that key and certificate match, and compares the dates.
//
// It runs everything in turns, each as a separate process, so that the ratios are right even on a busy machine. The certificates are pairs
// of files without endpoints, from a Pebble in this process. packaging/bench/idle measures what a daemon costs.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

func main() {
	program := flag.String("mxcert", "bin/mxcert", "the `PROGRAM` to measure")
	rounds := flag.Int("rounds", 9, "median of so many `ROUNDS`")
	yardstick := flag.String("yardstick", "", "be the yardstick over this `DIRECTORY`")
	peak := flag.Bool("peak", false, "run the arguments as a command and print its peak memory in KiB")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := func() error {
		switch {
		case *yardstick != "":
			return readAll(*yardstick)
		case *peak:
			return printPeak(ctx, flag.Args())
		}
		return table(ctx, *program, *rounds)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "many:", err)
		os.Exit(1)
	}
}

// run is one program to measure, with its arguments.
type run struct {
	name    string
	command []string
	took    []time.Duration
	peak    string // KiB
}

func table(ctx context.Context, program string, rounds int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Printf("%-12s %-10s %9s %16s %10s\n", "certificates", "", "median", "of the yardstick", "peak")
	for _, n := range []int{1, 200, 1000} {
		l, err := makeWorld(ctx, program, n)
		if err != nil {
			return err
		}
		mxcert := []string{program, "-c", l.Path("mxcert.yaml"), "-q", "--progress", "none"}
		runs := []*run{
			{name: "yardstick", command: []string{self, "-yardstick", l.Directory}},
			{name: "renew", command: append(slices.Clone(mxcert), "renew")},
			{name: "status", command: append(slices.Clone(mxcert), "status")},
		}
		if err := errors.Join(measure(ctx, runs, rounds), l.Close()); err != nil {
			return err
		}
		for _, r := range runs {
			fmt.Printf("%-12d %-10s %6.0f ms %15.1fx %6.1f MiB\n", n, r.name, milliseconds(r.median()), float64(r.median())/float64(runs[0].median()), kib(r.peak)/1024)
		}
	}
	return nil
}

// makeWorld starts a lab, and makes mxcert issue and deploy n certificates.
func makeWorld(ctx context.Context, program string, n int) (*lab.Lab, error) {
	l, err := lab.Start(ctx, lab.Options{CA: ca.Options{SkipValidation: true}})
	if err != nil {
		return nil, err
	}
	text := l.Config(lab.ConfigOptions{Endpoints: []string{}})
	begin, end, _ := strings.Cut(text, "state: ")
	for i := 1; i < n; i++ {
		begin += fmt.Sprintf("  - name: mx%d\n    domains: [mx%d.example.org]\n    deploy:\n      - files: {certificate: %q, private_key: %q}\n    verify: {endpoints: []}\n",
			i, i, l.Path("tls", fmt.Sprintf("mx%d.crt", i)), l.Path("tls", fmt.Sprintf("mx%d.key", i)))
	}
	if err := os.WriteFile(l.Path("mxcert.yaml"), []byte(begin+"state: "+end), 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	out, err := exec.CommandContext(ctx, program, "-c", l.Path("mxcert.yaml"), "--progress", "none", "renew", "--now").CombinedOutput()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mxcert renew --now: %w\n%.2000s", err, out), l.Close())
	}
	return l, nil
}

// measure runs everything in turns.
func measure(ctx context.Context, runs []*run, rounds int) error {
	for range rounds {
		for _, r := range runs {
			cmd := exec.CommandContext(ctx, r.command[0], r.command[1:]...)
			cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
			began := time.Now()
			out, err := cmd.CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w\n%.2000s", r.name, err, out)
			}
			r.took = append(r.took, time.Since(began))
		}
	}
	for _, r := range runs {
		// A child process starts with the peak of its parent, and this process holds a lab. So a small process starts the child.
		out, err := exec.CommandContext(ctx, runs[0].command[0], append([]string{"-peak", "--"}, r.command...)...).Output()
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		r.peak = strings.TrimSpace(string(out))
	}
	return nil
}

func printPeak(ctx context.Context, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	if err := cmd.Run(); err != nil {
		return err
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("this system does not say what a process has used")
	}
	fmt.Println(usage.Maxrss)
	return nil
}

func kib(text string) float64 {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return n
}

func (r *run) median() time.Duration {
	return slices.Sorted(slices.Values(r.took))[len(r.took)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// readAll is the yardstick. It reads every stored pair, and the deployed files, which must be the same.
func readAll(directory string) error {
	chains, err := filepath.Glob(filepath.Join(directory, "state", "lineages", "*", "*", "fullchain.pem"))
	if err != nil || len(chains) == 0 {
		return errors.Join(err, fmt.Errorf("nothing is stored below %s", directory))
	}
	for _, path := range chains {
		generation := filepath.Dir(path)
		chain, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		key, err := os.ReadFile(filepath.Join(generation, "privkey.pem"))
		if err != nil {
			return err
		}
		pair, err := tls.X509KeyPair(chain, key)
		if err != nil {
			return fmt.Errorf("%s: %w", generation, err)
		}
		if time.Now().After(pair.Leaf.NotAfter) {
			return fmt.Errorf("%s has expired", generation)
		}
		name := filepath.Base(filepath.Dir(generation))
		for file, want := range map[string][]byte{name + ".crt": chain, name + ".key": key} {
			got, err := os.ReadFile(filepath.Join(directory, "tls", file))
			if err != nil || !bytes.Equal(got, want) {
				return errors.Join(err, fmt.Errorf("%s is not what is stored", file))
			}
		}
	}
	return nil
}
