package wanted

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"

	"mxcert/acme"
	"mxcert/acme/account"
	"mxcert/acme/authority"
	"mxcert/acme/schedule"
	"mxcert/configs"
)

// Authorities returns the settings of the CAs, in order of preference. release is the version of the program, for the user agent. It reads
// the secrets now. If a setting cannot be used, the error names it, and the result holds only what needs no secret.
func (h *Host) Authorities(release string) ([]acme.Settings, error) {
	return h.authorities(h.acme.Directories, release)
}

// Authority returns the settings for one CA, even if it is no longer configured.
func (h *Host) Authority(directory, release string) (acme.Settings, error) {
	directories := []string{directory}
	if !slices.Contains(h.acme.Directories, directory) {
		directories = append(directories, h.acme.Directories...) // then the system's roots count too: the CA may be public and the configured one private
	}
	list, err := h.authorities(directories, release)
	return list[0], err
}

func (h *Host) authorities(directories []string, release string) ([]acme.Settings, error) {
	roots, _, problem := readRoots("acme.ca_file", h.acme.CAFile)
	if roots != nil && len(directories) > 1 {
		roots = withSystemRoots(roots, h.acme.CAFile)
	}
	list := make([]acme.Settings, len(directories))
	for i, directory := range directories {
		list[i] = acme.Settings{Directory: directory, Account: account.Settings{Email: h.acme.Email}, PreferredChain: h.acme.PreferredChain, Roots: roots, UserAgent: "mxcert/" + release,
			Limits: limitsOf(directory, h.acme.Limits)}
		binding, bound := h.acme.Binding(directory)
		if !bound {
			continue
		}
		key, err := h.secrets.read(binding.HMACKey)
		if err != nil {
			problem = fmt.Errorf("acme.eab.hmac_key: %w", err)
			continue
		}
		list[i].Account.EABKeyID, list[i].Account.EABKey, list[i].Account.EABIfRequired = binding.KID, key, binding.Directory == "" && len(directories) > 1
	}
	return list, problem
}

// limitsOf returns the budget that the configuration sets for a CA, each of its limits to the full; nil if it sets none, or if the CA is
// public.
func limitsOf(directory string, set configs.Limits) *schedule.Limits {
	if _, public := authority.AtHost(directory); public || set == (configs.Limits{}) {
		return nil
	}
	if set.None {
		return &schedule.Limits{}
	}
	limits := schedule.LimitsOf(directory).Own()
	limits.NewUseAll = set.Orders != (configs.Rate{})
	for _, part := range []struct {
		to  *schedule.Rate
		set configs.Rate
	}{{&limits.Orders, set.Orders}, {&limits.Domain, set.Domain}, {&limits.Set, set.Names}, {&limits.Failures, set.Failures}} {
		if part.set != (configs.Rate{}) {
			*part.to = schedule.Rate{N: part.set.N, Per: part.set.Per} // none is 0, which is no limit
		}
	}
	return &limits
}

// ExternalBinding returns the key identifier of the external account binding for a CA (RFC 8555 section 7.3.4), or false if the
// configuration has no binding for it.
func (h *Host) ExternalBinding(directory string) (kid string, ok bool) {
	binding, ok := h.acme.Binding(directory)
	return binding.KID, ok
}

// readRoots reads a file of root certificates. id identifies its content. The pool is nil if the setting is empty.
func readRoots(setting, path string) (pool *x509.CertPool, id string, err error) {
	if path == "" {
		return nil, "", nil
	}
	text, err := readFile(path)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", setting, err)
	}
	pool = x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, "", fmt.Errorf("%s: %s holds no PEM certificate", setting, path)
	}
	sum := sha256.Sum256(text)
	return pool, hex.EncodeToString(sum[:8]), nil
}

// withSystemRoots adds the roots in the file to those of the system, because one of several CAs may be private and another public.
func withSystemRoots(own *x509.CertPool, path string) *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return own
	}
	if text, err := readFile(path); err == nil {
		pool.AppendCertsFromPEM(text)
	}
	return pool
}
