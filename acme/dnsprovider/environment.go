package dnsprovider

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
)

// readFiles replaces NAME_FILE by NAME with the content of that file, unless NAME has a value of its own (as lego does).
// lego only logs a file that it cannot read, and continues with an empty value; here that is an error.
func readFiles(provider string, description Description, env map[string]string) (map[string]string, error) {
	out := maps.Clone(env)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		variable, isFile := strings.CutSuffix(name, "_FILE")
		if !isFile || description.takesPath(name) || name == "RFC2136_TSIG_FILE" {
			continue
		}
		delete(out, name)
		if env[variable] != "" {
			continue
		}
		content, err := os.ReadFile(env[name])
		if err != nil {
			return nil, &Error{Provider: provider, Op: "set up", What: name, ErrKind: "dns-config", Reason: err.Error(),
				NextStep: "correct dns.env." + name + " or the mode of the file"}
		}
		out[variable] = strings.TrimSpace(string(content))
	}
	return out, nil
}

// environment guards the process environment while a lego provider reads its variables from it: they are set only while the
// provider is constructed, so that no other provider sees them. Code that starts a program must make an environment for it, as
// for hooks and scripts (cmd/mxcert has a test of that).
var environment sync.Mutex //nolint:gochecknoglobals // the environment is global

// Undisturbed runs f while no provider is being set up. It is for code that reads variables of the environment that a provider
// may have, too.
func Undisturbed(f func()) {
	environment.Lock()
	defer environment.Unlock()
	f()
}

// withEnvironment runs f with the variables set, and without those of the process that the provider would read: a token in the
// environment of mxcert is not meant for the provider unless dns.env says so.
func withEnvironment(description Description, provider string, env map[string]string, f func() error) error {
	environment.Lock()
	defer environment.Unlock()
	// net/http looks for a proxy once in the life of a process: it must not do so in the environment of a provider.
	_, _ = http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: "localhost"}})
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); name != "" && description.wouldRead(provider, name) {
			if err := os.Unsetenv(name); err != nil {
				return fmt.Errorf("variable %s: %w", name, err)
			}
			defer func() { _ = os.Setenv(name, value) }()
		}
	}
	for name, value := range env {
		previous, had := os.LookupEnv(name)
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("variable %s: %w", name, err)
		}
		defer func() {
			if had {
				_ = os.Setenv(name, previous)
			} else {
				_ = os.Unsetenv(name)
			}
		}()
	}
	return f()
}

// wouldRead reports whether a provider may read a variable: one that it is known to read, or one of the same family (up to the
// first underscore), because the libraries of large clouds read more variables than their descriptions say.
func (d Description) wouldRead(provider, name string) bool {
	if d.knows(name) {
		return true
	}
	family, _, found := strings.Cut(name, "_")
	if !found || strings.HasSuffix(name, "_PROXY") {
		return false
	}
	for known := range d.names() {
		if strings.HasPrefix(known, family+"_") {
			return true
		}
	}
	return slices.Contains(families(provider), family)
}

// families returns the families of variables that the libraries of some providers read although their descriptions do not say
// so.
func families(provider string) []string {
	switch provider {
	case "alidns", "aliesa":
		return []string{"ALIBABA", "ALICLOUD"}
	case "azure", "azuredns":
		return []string{"AZURE", "IDENTITY", "IMDS", "MSI"}
	case "gcloud":
		return []string{"CLOUDSDK", "GCLOUD", "GOOGLE"}
	case "lightsail", "route53":
		return []string{"AWS"}
	}
	return nil
}
