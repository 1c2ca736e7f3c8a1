package acme_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// killEnv makes the test binary a process that orders a certificate and is killed on the way.
const killEnv = "MXCERT_TEST_ORDER"

func TestMain(m *testing.M) {
	if text := os.Getenv(killEnv); text != "" {
		orderAndDie(text)
		return
	}
	os.Exit(m.Run())
}

// orderAndDie ends by SIGKILL at the stage that the setup names.
func orderAndDie(text string) {
	var s setup
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		fmt.Println(err)
		return
	}
	_, err := s.issue(context.Background(), func(r *acme.Request) {
		r.Progress = func(stage, message string) {
			fmt.Println(stage, message)
			if stage == s.DieAt {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	})
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM:") {
			fmt.Print(line)
		}
	}
	fmt.Println("still alive:", err)
}

// apart orders in a process of its own, with further variables in its environment, and gives what it printed.
func (s setup) apart(t *testing.T, environment ...string) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	child.Env = append(append(os.Environ(), killEnv+"="+string(text)), environment...)
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// setup is what one order needs, in a form that another process can be given.
type setup struct {
	Directory, CAFile, RootsFile, State, Lineage, TSIG, DieAt string
	NameServers, Names                                        []string
	Settings                                                  acme.Settings
	RequestTime                                               time.Duration // for one request; 0 for what is usual
	Accounts                                                  []dnsAccount  // by zone; none: the lab's key proves all names
}

// world is a lab and the state of one host.
type world struct {
	*lab.Lab
	setup
}

func newWorld(t testing.TB, opts lab.Options) *world {
	t.Helper()
	l := lab.New(t, opts)
	return &world{Lab: l, setup: setup{
		Directory: l.CA.DirectoryURL(), CAFile: l.Path("ca.pem"), RootsFile: l.Path("roots.pem"), State: l.Path("state"), Lineage: "mx.example.org",
		TSIG: l.Secret(), NameServers: l.NameServers(), Names: []string{"mx.example.org", "host7.example.org"},
	}}
}

// client opens the store and makes a client.
func (s setup) client() (*acme.Client, *state.Book, error) {
	store, err := state.Open(disk.Open(s.State))
	if err != nil {
		return nil, nil, err
	}
	settings := s.Settings
	settings.Directory = s.Directory
	if settings.UserAgent == "" {
		settings.UserAgent = "mxcert/test"
	}
	if settings.Roots == nil {
		if settings.Roots, err = pool(s.CAFile); err != nil {
			return nil, nil, err
		}
	}
	client := acme.New(settings, store)
	if s.RequestTime > 0 {
		client.SetPatience(s.RequestTime)
	}
	return client, store, nil
}

func pool(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return roots, err
}

func (s setup) solver() (dnsprovider.Solver, *resolve.Resolver, error) {
	resolver := resolve.New(s.NameServers)
	solver, err := dnsAccount{Key: lab.KeyName, Secret: s.TSIG}.solver(s.NameServers[0], resolver)
	return solver, resolver, err
}

// dnsAccount is a DNS account: a TSIG key, or a program.
type dnsAccount struct{ Zone, Key, Secret, Program string }

func (a dnsAccount) solver(server string, resolver *resolve.Resolver) (dnsprovider.Solver, error) {
	if a.Program != "" {
		return dnsprovider.New("exec", map[string]string{"EXEC_PATH": a.Program}, resolver)
	}
	return dnsprovider.New("rfc2136", map[string]string{
		"DNSUPDATE_NAMESERVER": server, "DNSUPDATE_TSIG_KEY": a.Key, "DNSUPDATE_TSIG_SECRET": a.Secret, "DNSUPDATE_DNS_TIMEOUT": "2",
	}, resolver)
}

// accounts are those of the setup, and the resolver that they use.
func (s setup) accounts() (accounts dnsprovider.Accounts, resolver *resolve.Resolver) {
	list := s.Accounts
	if len(list) == 0 {
		list = []dnsAccount{{Key: lab.KeyName, Secret: s.TSIG}}
	}
	resolver = resolve.New(s.NameServers)
	for _, a := range list {
		provider := "rfc2136"
		if a.Program != "" {
			provider = "exec"
		}
		accounts = append(accounts, dnsprovider.NewAccount(a.Zone, provider, func() (dnsprovider.Solver, error) { return a.solver(s.NameServers[0], resolver) }))
	}
	return accounts, resolver
}

// issue orders a certificate under the lineage's lock; edit may change the request.
func (s setup) issue(ctx context.Context, edit func(*acme.Request)) (*acme.Issued, error) {
	client, store, err := s.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return s.issueBy(ctx, client, store, edit)
}

// issueBy is issue with a client that goes on.
func (s setup) issueBy(ctx context.Context, client *acme.Client, store *state.Book, edit func(*acme.Request)) (*acme.Issued, error) {
	accounts, resolver := s.accounts()
	roots, err := pool(s.RootsFile)
	if err != nil {
		return nil, err
	}
	lineage := store.Lineage(s.Lineage)
	unlock, err := lineage.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	request := acme.Request{
		Claim: acme.Claim{Names: s.Names, KeyType: bundle.EC256}, Roots: roots, Lineage: lineage, Accounts: accounts, Resolver: resolver,
		Require: resolve.All, Patience: 10 * time.Second,
	}
	if edit != nil {
		edit(&request)
	}
	return client.Issue(ctx, request)
}

// order is issue for tests in which it must succeed.
func (w *world) order(t *testing.T, edit func(*acme.Request)) *acme.Issued {
	t.Helper()
	issued, err := w.issue(t.Context(), edit)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

func (s setup) lineage(t testing.TB) *state.Lineage {
	t.Helper()
	return state.New(disk.At(s.State)).Lineage(s.Lineage)
}

// sweep removes what an earlier run left behind, as the beginning of a pass does.
func (s setup) sweep(t *testing.T) error {
	t.Helper()
	accounts, resolver := s.accounts()
	return acme.CleanUp(t.Context(), s.lineage(t), accounts, resolver, func(string, string) {})
}

// clean fails the test when TXT records or journal entries are left.
func (w *world) clean(t *testing.T, when string) {
	t.Helper()
	if left := w.World.Challenges(); len(left) != 0 {
		t.Errorf("%s: TXT records are left: %v", when, left)
	}
	if entries, err := w.lineage(t).Journal(); err != nil || len(entries) != 0 {
		t.Errorf("%s: journal entries are left: %v, %v", when, entries, err)
	}
}

// stored tells whether an order in flight is stored.
func (w *world) stored(t *testing.T) bool {
	t.Helper()
	_, ok, err := w.lineage(t).Order(bundle.EC256)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// orders is how many orders the CA was asked for.
func (w *world) orders() int { return w.CA.Count(ca.NewOrder) }

// tape records the progress.
type tape struct {
	mu    sync.Mutex
	lines []string
}

func (p *tape) say(stage, message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, stage+": "+message)
}

func (p *tape) has(part string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.lines, func(line string) bool { return strings.Contains(line, part) })
}
