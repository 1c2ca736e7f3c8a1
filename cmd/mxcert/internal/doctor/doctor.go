// Package doctor tests everything that a renewal needs, and changes nothing unless Doctor.Online is set. It looks at the configuration
// and its secrets, the state directory, the daemon and its rights, the hooks, the CAs and the accounts there. For each certificate it
// looks at what is stored, the DNS provider, the names, the files, the units and the endpoints. If senders of mail get the certificate, it
// looks at what they meet, too.
//
// It returns findings and prints nothing. If a test fails, hangs or panics, the other tests still run. A finding is an error if it would
// make a renewal fail, or if it makes senders keep mail; otherwise it is at most a warning. What cannot be judged from this host is well, and
// says so. The package repairs nothing; each finding says what a person can do.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

const (
	// grace is how long a test may take to stop after its time is over.
	grace = 2 * time.Second
	// testsAtOnce limits the number of tests that run at once.
	testsAtOnce = 16
)

// Check is the result for one thing that doctor has looked at.
type Check struct {
	finding.Finding
	Certificate string // "" for tests of the host
}

// Doctor looks at everything that a renewal needs.
type Doctor struct {
	Runner        *pass.Runner
	Disk          state.Store // of this host, for its fleet
	Certificates  []wanted.Certificate
	ConfigFile    string
	IsService     bool              // the file is the one that this host's service reads
	Configuration []finding.Finding // about the files
	Secrets       []finding.Finding // about those that this process cannot read
	Polkit        Rule              // of this host, see ReadRule
	Daemon        *report.Daemon    // the running one; nil if no daemon runs
	Servers       []Server          // of this host, see ReadServers
	Elsewhere     []string          // mail domains of others, to find out whether this host reaches port 25 of their MX hosts

	// Service asks the running daemon what it finds with its secrets. It returns nil if no daemon answers; then this process tests with
	// the secrets that it can read itself. Nil, if there is nobody to ask.
	Service func(ctx context.Context) *Seen
	// Online has each DNS provider create and remove a record for each name. Without it nothing is changed.
	Online bool
	// Held says how to test with secrets that systemd hands only to the service; "" if this process lacks none of them.
	Held string
}

// Seen is what the service finds with the secrets that it has.
type Seen struct {
	Secrets   []finding.Finding            // those that it cannot read
	Providers map[string][]finding.Finding // the test of the DNS provider of each certificate
}

// service asks the daemon; nil if it does not answer.
func (d *Doctor) service(ctx context.Context) *Seen {
	if d.Service == nil {
		return nil
	}
	return d.Service(ctx)
}

// test is one of the tests. It returns what it found.
type test struct {
	id, certificate string
	run             func(ctx context.Context) []finding.Finding
	grace           time.Duration // how long it may take to stop; 0: grace
}

// Examine runs all tests, several at once, and returns their findings in the order of the tests. A test that has not ended when
// ctx ends is a finding, too.
func (d *Doctor) Examine(ctx context.Context) []Check {
	tests := d.hostTests()
	for _, want := range d.Certificates {
		tests = append(tests, d.certificateTests(want)...)
	}
	found := make([][]finding.Finding, len(tests))
	var group errgroup.Group
	group.SetLimit(testsAtOnce)
	for i, t := range tests {
		group.Go(func() error {
			found[i] = t.within(ctx)
			return nil
		})
	}
	_ = group.Wait() // the tests report their errors as findings
	var checks []Check
	for i, t := range tests {
		for _, f := range found[i] {
			f.ID = cmp.Or(f.ID, t.id)
			checks = append(checks, Check{Finding: f, Certificate: t.certificate})
		}
	}
	return oneCAIsEnough(checks)
}

// within runs a test so that it can neither hang doctor nor end the other tests.
func (t test) within(ctx context.Context) []finding.Finding {
	done := make(chan []finding.Finding, 2)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- []finding.Finding{bad("a fault inside mxcert ended this test: %v", r).Next("please report this")}
			}
		}()
		done <- t.run(ctx)
	}()
	late := ctx.Done()
	for {
		select {
		case found := <-done:
			return found
		case <-late:
			late = nil
			timer := time.AfterFunc(cmp.Or(t.grace, grace), func() {
				done <- []finding.Finding{bad("this test did not end in time").Next("allow more time with --timeout, or find out what hangs")}
			})
			defer timer.Stop()
		}
	}
}

// The ID of a finding is that of its test, unless called sets another.
func well(format string, values ...any) finding.Finding {
	return finding.New("", finding.OK, format, values...)
}

func doubtful(format string, values ...any) finding.Finding {
	return finding.New("", finding.Warning, format, values...)
}

func bad(format string, values ...any) finding.Finding {
	return finding.New("", finding.Error, format, values...)
}

// called sets the ID of a finding. Tests that return several findings use it.
func called(id string, f finding.Finding) finding.Finding {
	f.ID = id
	return f
}

// faults turns each part of an error into one finding, without repetitions; otherwise is the hint for parts that do not have
// one.
func faults(err error, otherwise string) []finding.Finding {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // a tree of errors is walked this way
	if !ok {
		return []finding.Finding{bad("%s", report.OneLine(err.Error())).Next(cmp.Or(report.HintOf(err), otherwise))}
	}
	var list []finding.Finding
	for _, e := range joined.Unwrap() {
		for _, f := range faults(e, otherwise) {
			if !slices.Contains(list, f) {
				list = append(list, f)
			}
		}
	}
	return list
}

// orWell returns the findings or, if there are none, one finding that says that all is well.
func orWell(found []finding.Finding, format string, values ...any) []finding.Finding {
	if len(found) == 0 {
		return []finding.Finding{well("%s", fmt.Sprintf(format, values...))}
	}
	return found
}
