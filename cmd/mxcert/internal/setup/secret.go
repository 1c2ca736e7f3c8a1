package setup

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/acme/dnsprovider"
)

// moveSecrets replaces the secrets in the answers by references, as the configuration will have them, and returns them by the name of their
// file in the credentials directory. If a secret has the value file:PATH, it reads that file, so that the service needs no right to it; a file
// in the credentials directory itself stays where it is. Other references stay.
func (a *Answers) moveSecrets() (secrets map[string]string, err error) {
	secrets = map[string]string{}
	env := maps.Clone(a.Env)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !dnsprovider.Secret(a.Provider, name) {
			continue
		}
		if env[name], err = a.moveSecret(secrets, strings.ToLower(name), env[name]); err != nil {
			return nil, fmt.Errorf("--dns-env %s: %w", name, err)
		}
	}
	a.Env = env
	if a.EABKey, err = a.moveSecret(secrets, eabFile, a.EABKey); err != nil {
		return nil, fmt.Errorf("--eab-hmac-key: %w", err)
	}
	return secrets, nil
}

// moveSecret returns the reference for one value.
func (a *Answers) moveSecret(secrets map[string]string, file, value string) (reference string, err error) {
	if value == "" || strings.HasPrefix(value, "cred:") || strings.HasPrefix(value, "env:") {
		return value, nil
	}
	if path, ok := strings.CutPrefix(value, "file:"); ok {
		if a.Credentials != "" && filepath.Dir(path) == filepath.Clean(a.Credentials) {
			return "cred:" + filepath.Base(path), nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		value = strings.TrimSpace(string(content))
	}
	secrets[file] = value
	return "cred:" + file, nil
}
