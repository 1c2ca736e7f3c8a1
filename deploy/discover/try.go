package discover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"mxcert/deploy"
)

// tryPatience limits the handshakes with new files.
const tryPatience = 20 * time.Second

// goAhead is Exim's answer to STARTTLS if it could open the files.
const goAhead = "\n220 TLS go ahead"

// TryExim makes Exim open new files in the staging directory (see deploy.Plan.Try), in the same way as for a sender. It uses exim -bh, a
// separate session that changes nothing. If Exim objects to the files, the error is an *Error with Exim's words. It is nil if the files are
// good. It is also nil if TryExim cannot find out: no target belongs to Exim, the configuration is not Debian's or offers no TLS, or this
// process is not root.
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
	if e, ok := errors.AsType[*Error](err); ok && aboutStaple(e.Said) && slices.ContainsFunc(targets, func(t deploy.Target) bool { return t.OCSP != "" }) {
		return nil // it has accepted certificate and key; what it has read is the response of the old certificate
	}
	if !tried {
		return nil //nolint:nilerr // if Exim cannot be asked, that says nothing against the files
	}
	return err
}

// tryExim asks Exim about pairs of files. tried is false if Exim gives no answer about them.
func tryExim(ctx context.Context, pairs []deploy.Pair) (tried bool, err error) {
	program, err := find("exim4", "exim")
	if err != nil {
		return false, nil //nolint:nilerr // nothing can be asked
	}
	certificate, key := eximLists(pairs)
	macros := []string{"-DMAIN_TLS_CERTKEY=" + certificate}
	if key != "" {
		macros = []string{"-DMAIN_TLS_CERTIFICATE=" + certificate, "-DMAIN_TLS_PRIVATEKEY=" + key}
	}
	// Find out whether this Exim uses the macros. A configuration that sets tls_certificate directly does not.
	out, _, err := run(ctx, "", program, append(macros, "-bP", "tls_certificate", "tls_privatekey")...)
	if values := settings(out); err != nil || values["tls_certificate"] != certificate || values["tls_privatekey"] != key {
		return false, nil //nolint:nilerr // without these macros there is nothing to try
	}
	// Exim answers when it has opened the files. After that, the session has nothing to say about them: it waits for half a second, because
	// nobody makes the handshake (tls-gnu.c and tls-openssl.c, millisleep(500)).
	stdout, stderr, err := runUntil(ctx, goAhead, "EHLO localhost\r\nSTARTTLS\r\n", program, append(macros, "-bh", "127.0.0.1")...)
	text := stdout + "\n" + stderr
	switch {
	case strings.Contains(text, "\n454 "):
		said := logged(text)
		return true, &Error{Program: "exim4", Args: []string{"-bh", "127.0.0.1"}, Said: said, kind: kindRefused,
			text: fmt.Sprintf("Exim would answer 454 with the new files, so that they were not put in place: %s", quote(said)),
			hint: "may Exim's user read them (owner, group and mode in the deploy section), and are tls_ocsp_file and the other TLS settings in order?"}
	case strings.Contains(text, goAhead):
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
