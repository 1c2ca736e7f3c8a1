package dnsprovider

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// readFiles replaces NAME_FILE by NAME with the content of that file. lego only logs a file that it cannot read and
// goes on with an empty value; here that is an error.
func readFiles(provider string, env map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(env))
	for name, value := range env {
		variable, isFile := strings.CutSuffix(name, "_FILE")
		// DNSUPDATE_TSIG_FILE and KEYTAB_FILE are variables of their own: the file is read by the provider.
		if !isFile || strings.HasSuffix(variable, "_TSIG") || strings.HasSuffix(variable, "_KEYTAB") {
			out[name] = value
			continue
		}
		content, err := os.ReadFile(value)
		if err != nil {
			return nil, &Error{Provider: provider, Op: "set up", What: name, ErrKind: "dns-config", Reason: err.Error(),
				NextStep: "mend dns.env." + name + " or the mode of the file"}
		}
		out[variable] = strings.TrimSpace(string(content))
	}
	return out, nil
}

// environment guards the process environment while a lego provider reads its variables from it: they are set for the
// moment of its construction and put back after it, so that no provider, hook or child sees another's.
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
