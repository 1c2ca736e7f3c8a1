package cli

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"mxcert/acme"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
)

// world is what the passes of one configuration share.
type world struct {
	config      *configs.Config
	version     string // of the program
	effective   []byte // the configuration as one text; a daemon lets it go when it is stored
	fingerprint string // of that text, to see whether it changed since a failure
	store       *state.Book
	cas         *acme.Authorities
	chainRoots  *x509.CertPool // of acme.roots_file; nil: none demanded
	reloader    reloader
	desk        *desk  // of helpers with the rights that this process lacks; nil where it needs none
	guard       *guard // of the files; nil where no daemon is at work
}

// newWorld translates a configuration. readOnly makes no state directory.
func newWorld(config *configs.Config, version string, readOnly bool) (*world, error) {
	if err := checkOutside(config); err != nil {
		return nil, err
	}
	open := openStore
	if readOnly {
		open = viewStore
	}
	store, err := open(config.State)
	if err != nil {
		return nil, err
	}
	w := &world{config: config, version: version, store: store}
	if w.effective, err = config.Effective(); err != nil {
		return nil, err
	}
	w.fingerprint = fingerprintOf(w.effective)
	if w.chainRoots, err = readRoots("acme.roots_file", config.ACME.RootsFile); err != nil {
		return nil, err
	}
	caRoots, err := readRoots("acme.ca_file", config.ACME.CAFile)
	if err != nil {
		return nil, err
	}
	if caRoots != nil && len(config.ACME.Directories) > 1 {
		caRoots = withSystemRoots(caRoots, config.ACME.CAFile)
	}
	settings, err := authorities(config, version, caRoots)
	if err != nil {
		return nil, err
	}
	w.cas = acme.NewAuthorities(store, settings...)
	return w, nil
}

// authorities translates the CAs of a configuration.
func authorities(config *configs.Config, version string, roots *x509.CertPool) ([]acme.Settings, error) {
	var list []acme.Settings
	for _, directory := range config.ACME.Directories {
		s := acme.Settings{Directory: directory, Email: config.ACME.Email, PreferredChain: config.ACME.PreferredChain, Roots: roots, UserAgent: "mxcert/" + version}
		if binding, bound := config.ACME.Binding(directory); bound {
			key, err := binding.HMACKey.Read()
			if err != nil {
				return nil, fmt.Errorf("acme.eab.hmac_key: %w", err)
			}
			s.EABKeyID, s.EABKey, s.EABIfRequired = binding.KID, key, binding.Directory == "" && len(config.ACME.Directories) > 1
		}
		list = append(list, s)
	}
	return list, nil
}

// openStore opens the state for changes, and makes it if it is missing.
func openStore(path string) (*state.Book, error) { return state.Open(disk.Open(path)) }

// viewStore opens the state for reading only. If there is no state yet, it is empty.
func viewStore(path string) (*state.Book, error) {
	store, err := state.Open(disk.View(path))
	if errors.Is(err, fs.ErrNotExist) {
		return state.New(disk.At(path)), nil
	}
	return store, err
}

// close releases connections, and watches no more.
func (w *world) close() {
	w.cas.Close()
	if w.guard != nil {
		w.guard.close()
	}
}

// checkOutside finds what the configuration by itself cannot know: files of root certificates that cannot be read, names
// of providers that this build lacks.
func checkOutside(config *configs.Config) error {
	problems := &configs.Problems{}
	for _, file := range [][2]string{{"acme.ca_file", config.ACME.CAFile}, {"acme.roots_file", config.ACME.RootsFile}} {
		if _, err := readRoots(file[0], file[1]); err != nil {
			problem := config.At(file[0])
			problem.Message, problem.Hint = err.Error(), "name a readable PEM file, or leave the setting out"
			problems.List = append(problems.List, problem)
		}
	}
	for i, c := range config.Certificates {
		err, setting := dnsprovider.Known(c.DNS.Provider), "dns.provider"
		if err == nil {
			err, setting = dnsprovider.CheckVariables(c.DNS.Provider, slices.Sorted(maps.Keys(c.DNS.Env))), "dns.env"
		}
		if err == nil {
			continue
		}
		problem := config.At(fmt.Sprintf("certificates[%d].%s", i, setting))
		if c.DNS.Provider == config.DNS.Provider {
			problem = config.At(setting)
		}
		problem.Message, problem.Hint = err.Error(), report.HintOf(err)
		problems.List = append(problems.List, problem)
		if c.DNS.Provider == config.DNS.Provider {
			break
		}
	}
	if len(problems.List) > 0 {
		return problems
	}
	return nil
}

func fingerprint(config *configs.Config) (string, error) {
	text, err := config.Effective()
	return fingerprintOf(text), err
}

func fingerprintOf(effective []byte) string {
	sum := sha256.Sum256(effective)
	return hex.EncodeToString(sum[:8])
}

// readRoots reads a file of root certificates; nil where none is configured.
func readRoots(key, path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: %s holds no PEM certificate", key, path)
	}
	return pool, nil
}

// withSystemRoots adds the file's roots to those of the system: one of several CAs may be private and another public.
func withSystemRoots(own *x509.CertPool, path string) *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return own
	}
	if text, err := os.ReadFile(path); err == nil {
		pool.AppendCertsFromPEM(text)
	}
	return pool
}

// solver sets up the DNS provider of a certificate, with the secrets that its variables refer to.
func (p *pass) solver() (dnsprovider.Solver, error) {
	env := make(map[string]string, len(p.certificate.DNS.Env))
	var problem error
	dnsprovider.Undisturbed(func() { // env:NAME may be a variable that another certificate's provider is just being given
		for name, secret := range p.certificate.DNS.Env {
			value, err := secret.Read()
			if err != nil {
				problem = fmt.Errorf("dns.env.%s: %w", name, err)
				return
			}
			env[name] = value
		}
	})
	if problem != nil {
		return nil, problem
	}
	return dnsprovider.New(p.certificate.DNS.Provider, env, p.resolver())
}

// resolver asks the configured name servers. The server that takes updates is asked on its own port too.
func (p *pass) resolver() *resolve.Resolver {
	if p.dns == nil {
		p.dns = resolve.New(p.certificate.DNS.Resolvers, string(p.certificate.DNS.Env["DNSUPDATE_NAMESERVER"]))
	}
	return p.dns
}
