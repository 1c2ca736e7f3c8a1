package dnsprovider

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

// readFiles replaces NAME_FILE by NAME with the content of that file, unless NAME has a value of its own (as lego does).
// lego only logs a file that it cannot read and goes on with an empty value; here that is an error.
func readFiles(provider string, env map[string]string) (map[string]string, error) {
	out := maps.Clone(env)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		variable, isFile := strings.CutSuffix(name, "_FILE")
		if !isFile || wantsPath(name) {
			continue
		}
		delete(out, name)
		if env[variable] != "" {
			continue
		}
		content, err := os.ReadFile(env[name])
		if err != nil {
			return nil, &Error{Provider: provider, Op: "set up", What: name, ErrKind: "dns-config", Reason: err.Error(),
				NextStep: "mend dns.env." + name + " or the mode of the file"}
		}
		out[variable] = strings.TrimSpace(string(content))
	}
	return out, nil
}

// wantsPath knows the variables that end in _FILE and are read by the provider itself: the key files of rfc2136 and the
// configuration of the AWS client.
func wantsPath(name string) bool {
	switch name {
	case "DNSUPDATE_TSIG_FILE", "RFC2136_TSIG_FILE",
		"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE":
		return true
	}
	return false
}

// environment guards the process environment while a lego provider reads its variables from it: they are set for the
// moment of its construction and put back after it, so that no other provider sees them. Hooks and programs get an
// environment that is made for them.
var environment sync.Mutex //nolint:gochecknoglobals // the environment is global

// withEnvironment runs f while the variables are set.
func withEnvironment(env map[string]string, f func() error) error {
	environment.Lock()
	defer environment.Unlock()
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
