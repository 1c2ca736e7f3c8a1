package discover

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// TryExim lets Exim open candidate files as it would for a sender (exim -bh, a session of its own that touches nothing):
// tried is false where that cannot be done, because the configuration is not Debian's, offers no TLS, or this process is
// not root. The error is a *Refused with what Exim says of the files, or an *Error.
func TryExim(ctx context.Context, candidates []Pair) (tried bool, err error) {
	e, _, err := askExim(ctx)
	if errors.Is(err, ErrAbsent) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	certificate, key := e.wish(Place{Pairs: candidates})
	macros := []string{"-DMAIN_TLS_CERTKEY=" + certificate}
	if key != "" {
		macros = []string{"-DMAIN_TLS_CERTIFICATE=" + certificate, "-DMAIN_TLS_PRIVATEKEY=" + key}
	}
	// Does this Exim take them? A configuration that sets tls_certificate by itself does not.
	out, _, err := run(ctx, "", e.program, append(macros, "-bP", "tls_certificate", "tls_privatekey")...)
	if values := settings(out); err != nil || values["tls_certificate"] != certificate || values["tls_privatekey"] != key {
		return false, nil //nolint:nilerr // an Exim that does not take them cannot be tried
	}
	stdout, stderr, err := run(ctx, "EHLO localhost\r\nSTARTTLS\r\n", e.program, append(macros, "-bh", "127.0.0.1")...)
	text := stdout + "\n" + stderr
	switch {
	case strings.Contains(text, "\n454 "):
		return true, &Refused{Said: logged(text)}
	case strings.Contains(text, "\n220 TLS go ahead"):
		return true, nil
	}
	return false, err
}

// logged is what Exim would have written to its log about TLS.
func logged(text string) string {
	for _, line := range strings.Split(text, "\n") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "LOG: "); ok && strings.Contains(rest, "TLS error") {
			return rest
		}
	}
	return "454 TLS currently unavailable"
}

// Refused says that Exim would not serve the candidates.
type Refused struct {
	Said string // foreign text
}

// Error says why.
func (e *Refused) Error() string {
	return fmt.Sprintf("Exim would answer 454 with the new files, so that they were not put in place: %s", printable(e.Said))
}

// Kind is refused-by-server.
func (e *Refused) Kind() string { return "refused-by-server" }

// Hint says where to look.
func (e *Refused) Hint() string {
	return "may Exim's user read them (owner, group and mode in the deploy section), and are tls_ocsp_file and the other TLS settings in order?"
}
