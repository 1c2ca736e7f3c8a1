package setup

import (
	"fmt"
	"os"
	"strings"

	"mxcert/acme/dnsprovider"
)

// moveSecrets returns the variables as the configuration will have them, and the secrets by the name of their file in the
// credentials directory. If a secret variable has the value file:PATH, it reads that file, so that the service needs no right
// to it. References to credentials and to the environment stay.
func (a *Answers) moveSecrets() (env, secrets map[string]string, err error) {
	env, secrets = map[string]string{}, map[string]string{}
	for name, value := range a.Env {
		env[name] = value
		if !dnsprovider.Secret(a.Provider, name) || strings.HasPrefix(value, "cred:") || strings.HasPrefix(value, "env:") {
			continue
		}
		if path, ok := strings.CutPrefix(value, "file:"); ok {
			content, err := os.ReadFile(path)
			if err != nil {
				return nil, nil, fmt.Errorf("--dns-env %s: %w", name, err)
			}
			value = strings.TrimSpace(string(content))
		}
		file := strings.ToLower(name)
		secrets[file], env[name] = value, "cred:"+file
	}
	return env, secrets, nil
}
