package dnsprovider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The variables of the provider, and how long a command may take: scripts that wait for their DNS take minutes.
const (
	hookAuth    = "CERTBOT_AUTH_HOOK"
	hookCleanUp = "CERTBOT_CLEANUP_HOOK"
	hookTimeout = "CERTBOT_HOOK_TIMEOUT"

	defaultHookTime = 10 * time.Minute
)

// certbotHook runs scripts that were written for certbot's --manual-auth-hook and --manual-cleanup-hook (certbot's "Pre and
// Post Validation Hooks"). They see CERTBOT_DOMAIN (the name, without "*."), CERTBOT_VALIDATION (the value of the TXT
// record at _acme-challenge.$CERTBOT_DOMAIN), CERTBOT_REMAINING_CHALLENGES (how many come after this one),
// CERTBOT_ALL_DOMAINS (separated by commas), and the clean-up CERTBOT_AUTH_OUTPUT (the standard output of the other,
// without space at both ends). CERTBOT_TOKEN is not set, because it belongs to http-01.
//
// A command is what certbot accepts: a line for the shell whose first word is a program. A line of plain words is run without a
// shell, with the same result. mxcert differs from certbot in three points: a command that fails stops the order (certbot only
// logs it), its time is limited, and it does not see mxcert's own environment. In a clean-up after a crash CERTBOT_AUTH_OUTPUT
// is not set, because it was lost; a script that depends on it then fails, and says so (see Forgotten). If there is a CNAME at
// _acme-challenge, the script has to change the right zone, as with certbot.
type certbotHook struct {
	programs programs
	auth     []string
	cleanUp  []string // nil if there is none
	made     made
	seen     map[string][]string // by record: what the auth hook saw, and its output
}

func newCertbotHook(env map[string]string) (Solver, error) {
	if err := checkHookVariables(slices.Sorted(maps.Keys(env))); err != nil {
		return nil, err
	}
	limit := defaultHookTime
	if text := env[hookTimeout]; text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 1 || seconds > 86400 {
			return nil, hookError(hookTimeout, fmt.Sprintf("%.40q is not a number of seconds from 1 to 86400", text), "correct the value")
		}
		limit = time.Duration(seconds) * time.Second
	}
	auth, err := readCommand(hookAuth, env)
	if err == nil && auth == nil {
		err = hookError(hookAuth, "it is missing", "set dns.env."+hookAuth+" to the command that creates a record")
	}
	if err != nil {
		return nil, err
	}
	cleanUp, err := readCommand(hookCleanUp, env)
	if err != nil {
		return nil, err
	}
	env = maps.Clone(env)
	for _, name := range []string{hookAuth, hookCleanUp, hookTimeout} {
		delete(env, name)
	}
	return &certbotHook{programs: newPrograms("certbot-hook", env, limit), auth: auth, cleanUp: cleanUp, made: made{}, seen: map[string][]string{}}, nil
}

// readCommand returns the program and arguments of a command; nil if there is no command.
func readCommand(variable string, env map[string]string) ([]string, error) {
	words := strings.Fields(env[variable])
	if len(words) == 0 {
		return nil, nil
	}
	if _, err := exec.LookPath(words[0]); err != nil { // as certbot checks it
		return nil, hookError(variable, err.Error(), "write the absolute path of a program, then its arguments; make the file executable (chmod +x)")
	}
	if line := env[variable]; strings.ContainsAny(line, "|&;<>()$`\\\"'*?[]#~!{}\n") {
		return []string{shell, "-c", line}, nil
	}
	return words, nil
}

// checkHookVariables refuses a variable that looks like a setting but is not one; all others are for the scripts.
func checkHookVariables(names []string) error {
	for _, name := range names {
		if strings.HasPrefix(name, "CERTBOT_") && name != hookAuth && name != hookCleanUp && name != hookTimeout {
			return hookError(name, "this provider has no such variable", "`mxcert providers certbot-hook` lists them; the others with this prefix are for the scripts to read")
		}
	}
	return nil
}

func hookError(variable, reason, hint string) *Error {
	return &Error{Provider: "certbot-hook", Op: "set up", What: variable, Reason: reason, ErrKind: "dns-config", NextStep: hint}
}

// Present runs the auth hook for one record after another.
func (h *certbotHook) Present(ctx context.Context, records []TXT) error {
	h.made.plan(records)
	for i, r := range records {
		env := hookEnvironment(records, i)
		h.made.set(r, tried)
		said, err := h.programs.run(ctx, call{arguments: h.auth, env: env, op: "create", name: hookAuth, record: r,
			hint: "run it by hand with CERTBOT_DOMAIN and CERTBOT_VALIDATION set; certbot continues if a hook fails, mxcert does not: a script that has done its work must end with exit 0"})
		h.seen[h.made.key(r)] = append(env, "CERTBOT_AUTH_OUTPUT="+strings.ReplaceAll(strings.TrimSpace(said), "\x00", ""))
		if err != nil {
			return err
		}
	}
	return nil
}

// CleanUp runs the clean-up hook for one record after another, and continues after a failure.
func (h *certbotHook) CleanUp(ctx context.Context, records []TXT) error {
	var problems []error
	for i, r := range records {
		if h.made.of(r) != planned { // otherwise Present did not reach it
			if err := h.remove(ctx, r, hookEnvironment(records, i)); err != nil {
				problems = append(problems, err)
				continue
			}
		}
		h.made.forget(r)
		delete(h.seen, h.made.key(r))
	}
	return errors.Join(problems...)
}

func (h *certbotHook) remove(ctx context.Context, r TXT, env []string) error {
	if h.cleanUp == nil {
		return forgotten("certbot-hook", "there is no "+hookCleanUp, r)
	}
	if seen, ok := h.seen[h.made.key(r)]; ok {
		env = seen
	}
	_, err := h.programs.run(ctx, call{arguments: h.cleanUp, env: env, op: "remove", name: hookCleanUp, record: r,
		hint: "run it by hand with CERTBOT_DOMAIN, CERTBOT_VALIDATION and CERTBOT_AUTH_OUTPUT set"})
	if e, failed := errors.AsType[*Error](err); failed && h.made.of(r) == foreign {
		return forgotten("certbot-hook", e.Reason+" (an earlier process has made the record, and CERTBOT_AUTH_OUTPUT is lost)", r)
	}
	return err
}

// hookEnvironment returns the variables for record i.
func hookEnvironment(records []TXT, i int) []string {
	domains := make([]string, len(records))
	for n, r := range records {
		domains[n] = r.Domain
	}
	return []string{
		"CERTBOT_DOMAIN=" + records[i].Domain,
		"CERTBOT_VALIDATION=" + records[i].Value,
		"CERTBOT_REMAINING_CHALLENGES=" + strconv.Itoa(len(records)-i-1),
		"CERTBOT_ALL_DOMAINS=" + strings.Join(domains, ","),
	}
}
