// Package operation defines the work that the crash harness interrupts: deployments by mxcert in each layout, careless deployments for
// comparison, and changes of the state store. A Spec describes one operation; the harness sends it to another process as JSON. The package
// itself kills nothing and judges nothing.
package operation

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/deploy"
)

// Name is the name of the lineage.
const Name = "mx"

// Owner and Group are given to deployed files and to the store if the process is root. Nobody has these numbers.
const (
	Owner = 54320
	Group = 54321
	Mode  = 0o640
)

// These are the operations.
const (
	Deploy   = "deploy"    // Make and Apply of the new bundle
	Revert   = "revert"    // Revert of a deployment of the new bundle that was just made
	StoreAdd = "store-add" // open the store, account, order, journal, generation, record, prune
)

// Spec is one operation on the files below a directory.
type Spec struct {
	Action   string
	Layout   string
	Root     string // contains "tls", which the mail server reads, and "state"
	Old, New string // files with key and chain; Old is "" if nothing was deployed before
}

// TLS is the directory that the mail server reads.
func (s Spec) TLS() string { return filepath.Join(s.Root, "tls") }

// State is the directory of the store.
func (s Spec) State() string { return filepath.Join(s.Root, "state") }

// Prepare does everything that comes before the observed part, and returns the observed part as a function.
func (s Spec) Prepare() (func() error, error) {
	next, err := Load(s.New)
	if err != nil {
		return nil, err
	}
	switch s.Action {
	case StoreAdd:
		return func() error { return s.store(next) }, nil
	case Deploy:
		return func() error { return s.deploy(next) }, nil
	case Revert:
		return s.prepareRevert(next)
	}
	return nil, fmt.Errorf("there is no operation %q", s.Action)
}

func (s Spec) deploy(b *bundle.Bundle) error {
	layout, err := Find(s.Layout)
	if err != nil {
		return err
	}
	if layout.Careless != nil {
		return layout.Careless(s.TLS(), b)
	}
	plan, err := s.plan(layout, b)
	if err != nil {
		return err
	}
	return plan.Apply(s.keep)
}

func (s Spec) prepareRevert(next *bundle.Bundle) (func() error, error) {
	layout, err := Find(s.Layout)
	if err != nil {
		return nil, err
	}
	if layout.Careless != nil {
		old, err := Load(s.Old)
		return func() error { return layout.Careless(s.TLS(), old) }, errors.Join(err, layout.Careless(s.TLS(), next))
	}
	plan, err := s.plan(layout, next)
	if err != nil {
		return nil, err
	}
	return plan.Revert, plan.Apply(s.keep)
}

func (s Spec) plan(layout Layout, b *bundle.Bundle) (*deploy.Plan, error) {
	var jobs []deploy.Job
	for _, target := range layout.Targets(s.TLS()) {
		target.Mode = Mode
		if os.Geteuid() == 0 {
			target.Owner, target.Group = strconv.Itoa(Owner), strconv.Itoa(Group)
		}
		jobs = append(jobs, deploy.Job{Bundle: b, Target: target, Names: b.Leaf().DNSNames, Staple: StapleOf(b.Serial())})
	}
	return deploy.Make(Name, jobs, nil)
}

// keep does what a pass does with a file that is not its own.
func (s Spec) keep(path string, content []byte) error {
	_, err := state.New(disk.At(s.State())).Lineage(Name).Displace(path, content, time.Now())
	return err
}

// Load reads a bundle from a combined file.
func Load(path string) (*bundle.Bundle, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cut := bytes.Index(text, []byte("-----BEGIN CERTIFICATE"))
	if cut < 0 {
		return nil, fmt.Errorf("there is no certificate in %s", path)
	}
	return bundle.Parse(text[cut:], text[:cut])
}
