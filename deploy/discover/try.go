package discover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"mxcert/deploy"
)

// tryPatience bounds the handshakes with new files.
const tryPatience = 20 * time.Second

// TryExim makes Exim open new files in the staging directory (see deploy.Plan.Try), as it would for a sender: by exim -bh, a
// separate session that changes nothing. The error is an *Error with what Exim says about the files. It is nil if they are
// good. It is also nil if TryExim cannot find out: no target is for Exim, the configuration is not Debian's or does not offer
// TLS, or this process is not root.
func TryExim(ctx context.Context, staged []deploy.Target) error {
	targets := checkedOf(kindExim, staged)
	if os.Geteuid() != 0 || len(targets) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tryPatience)
	defer cancel()
	var pairs []deploy.Pair
	for _, t := range targets {
		ways := t.Pairs(nil)
		pairs = append(pairs, ways[len(ways)-1])
	}
	tried, err := tryExim(ctx, pairs)
	if !tried {
		return nil //nolint:nilerr // if Exim cannot be asked, that does not speak against the files
	}
	return err
}

// tryExim asks Exim about pairs of files; tried is false if Exim does not answer about them.
func tryExim(ctx context.Context, pairs []deploy.Pair) (tried bool, err error) {
	e, _, err := askExim(ctx)
	if errors.Is(err, ErrAbsent) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	certificate, key := eximLists(pairs)
	macros := []string{"-DMAIN_TLS_CERTKEY=" + certificate}
	if key != "" {
		macros = []string{"-DMAIN_TLS_CERTIFICATE=" + certificate, "-DMAIN_TLS_PRIVATEKEY=" + key}
	}
	// Does this Exim use the macros? A configuration that sets tls_certificate without them does not.
	out, _, err := run(ctx, "", e.program, append(macros, "-bP", "tls_certificate", "tls_privatekey")...)
	if values := settings(out); err != nil || values["tls_certificate"] != certificate || values["tls_privatekey"] != key {
		return false, nil //nolint:nilerr // an Exim that does not use the macros cannot be tried
	}
	stdout, stderr, err := run(ctx, "EHLO localhost\r\nSTARTTLS\r\n", e.program, append(macros, "-bh", "127.0.0.1")...)
	text := stdout + "\n" + stderr
	switch {
	case strings.Contains(text, "\n454 "):
		said := logged(text)
		return true, &Error{Program: "exim4", Args: []string{"-bh", "127.0.0.1"}, Said: said, kind: kindRefused,
			text: fmt.Sprintf("Exim would answer 454 with the new files, so mxcert has not put them in place: %s", quote(said)),
			hint: "check that Exim's user may read them (owner, group and mode in the deploy section), and that tls_ocsp_file and the other TLS settings are right"}
	case strings.Contains(text, "\n220 TLS go ahead"):
		return true, nil
	}
	return false, err
}

// logged returns what Exim would have written to its log about TLS.
func logged(text string) string {
	for _, line := range strings.Split(text, "\n") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "LOG: "); ok && strings.Contains(rest, "TLS error") {
			return rest
		}
	}
	return "454 TLS currently unavailable"
}
