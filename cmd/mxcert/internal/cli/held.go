package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
	"mxcert/hooks/unit"
)

// held are the secrets of the configuration that this process cannot read, and that systemd hands to the service: by the NAME of cred:NAME,
// the setting of the unit that says so.
type held map[string]string

// isService reports whether the configuration is the one of this host's service.
func (a *app) isService() bool { return a.configFile == defaultConfig || a.configFile == configs.Stdin }

// heldSecrets asks systemd about the secrets that this process cannot read. It is empty without a service, or without systemd.
func (a *app) heldSecrets(ctx context.Context, config *configs.Config) held {
	h := held{}
	if !a.isService() {
		return h
	}
	unreadable := slices.DeleteFunc(wanted.UnreadableSecrets(config), func(s wanted.Unreadable) bool { return s.Credential == "" })
	if len(unreadable) == 0 {
		return h
	}
	settings, err := unit.Credentials(ctx, unit.Service)
	if err != nil {
		return h
	}
	for _, secret := range unreadable {
		if setting, ok := settings[secret.Credential]; ok {
			h[secret.Credential] = setting
		}
	}
	return h
}

// text says of a secret what is the matter with it; "" if the service does not have it.
func (h held) text(secret wanted.Unreadable) string {
	if h[secret.Credential] == "" {
		return ""
	}
	setting, _, _ := strings.Cut(secret.Message, ": ")
	return setting + ": " + h.owner(secret.Credential)
}

// owner says that only the service has a credential.
func (h held) owner(name string) string {
	return fmt.Sprintf("systemd hands cred:%s only to %s (%s)", name, unit.Service, h[name])
}

// findings returns what is wrong with the secrets of a configuration. One that the service has is not a fault.
func (h held) findings(config *configs.Config) (list []finding.Finding) {
	for _, secret := range wanted.UnreadableSecrets(config) {
		severity := finding.Error
		if text := h.text(secret); text != "" {
			severity, secret.Message, secret.Hint = finding.Warning, text, h.hint("doctor")
		}
		list = append(list, wanted.Findings([]configs.Problem{secret.Problem}, severity)...)
	}
	return list
}

// hint says how a command gets the secrets; "" if it lacks none. A value that the unit itself contains cannot be repeated.
func (h held) hint(command string) string {
	if len(h) == 0 {
		return ""
	}
	start := "start the daemon, which has the secrets: systemctl start mxcert"
	if given := h.given(command); given != "" {
		return start + "; or " + given
	}
	return start
}

// given says how to give the secrets to a command; "" if that cannot be done.
func (h held) given(command string) string {
	var properties []string
	for _, setting := range h {
		if strings.HasPrefix(setting, "Set") {
			return ""
		}
		properties = append(properties, "-p "+setting)
	}
	slices.Sort(properties)
	return fmt.Sprintf("give them to the command: systemd-run --pipe --wait --quiet %s mxcert %s", strings.Join(properties, " "), command)
}

// explain returns what makes the error about a secret say who has it, if only the service does and no daemon did the work of a command. It
// asks systemd once, when the first secret cannot be read.
func (a *app) explain(ctx context.Context, config *configs.Config, command string) func(configs.Secret, error) error {
	ask := sync.OnceValue(func() held { return a.heldSecrets(ctx, config) })
	return func(secret configs.Secret, err error) error { return ask().explain(secret, err, command) }
}

// explain returns err or, if only the service has the secret, an error that says so, and how the command gets it.
func (h held) explain(secret configs.Secret, err error, command string) error {
	name, isCredential := strings.CutPrefix(string(secret), "cred:")
	if !isCredential || h[name] == "" {
		return err
	}
	if strings.HasPrefix(command, "fleet") { // these commands ask no daemon
		return &lackError{text: h.owner(name), hint: cmp.Or(h.given(command), "mxcert status shows what the daemon knows of the fleet")}
	}
	return &lackError{text: h.owner(name) + ", and no daemon answers", hint: h.hint(command)}
}

// lackError is an error about a secret that only the service has.
type lackError struct{ text, hint string }

func (e *lackError) Error() string { return e.text }

// Kind is "permission".
func (e *lackError) Kind() string { return "permission" }

// Hint says how the command gets the secret.
func (e *lackError) Hint() string { return e.hint }
