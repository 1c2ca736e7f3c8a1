package setup

import (
	"fmt"
	"os"
	"slices"
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
		if !secret(a.Provider, name) || strings.HasPrefix(value, "cred:") || strings.HasPrefix(value, "env:") {
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

// secret reports whether the value of a DNS provider's variable belongs in a file of its own: a variable that the provider's
// documentation calls a credential, or one that it does not mention.
func secret(provider, variable string) bool {
	description, err := dnsprovider.Describe(provider)
	if err != nil {
		return true
	}
	if rest, old := strings.CutPrefix(variable, "RFC2136_"); old {
		variable = "DNSUPDATE_" + rest
	}
	for _, v := range description.Variables {
		switch variable {
		case v.File:
			return false // a path
		case v.Name:
			return v.Credential && !slices.Contains(openTSIG(), v.Name) || isKeyByName(v.Name)
		}
	}
	return true
}

// openTSIG lists credentials that are not secret: name and algorithm of a TSIG key are readable in every message that it signs
// (RFC 8945, section 4.2), and a path is not a key.
func openTSIG() []string {
	return []string{"DNSUPDATE_TSIG_KEY", "DNSUPDATE_TSIG_ALGORITHM", "DNSUPDATE_TSIG_FILE"}
}

// isKeyByName recognizes keys among the settings that lego's documentation does not list as credentials, because few accounts
// have them: HTTPREQ_PASSWORD and INWX_SHARED_SECRET, for example.
func isKeyByName(variable string) bool {
	last := variable[strings.LastIndexByte(variable, '_')+1:]
	return slices.Contains([]string{"KEY", "TOKEN", "SECRET", "PASSWORD"}, last) && !slices.Contains(openTSIG(), variable)
}
