package discover

import (
	"context"
	"strings"
)

// Stapling returns tls_ocsp_file of Exim, as it is written; "" if it is not set. The error is ErrAbsent, or an *Error that contains Exim's
// answer.
func Stapling(ctx context.Context) (string, error) {
	program, err := find("exim4", "exim")
	if err != nil {
		return "", err
	}
	out, _, err := run(ctx, "", program, "-bP", "tls_ocsp_file")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(settings(out)["tls_ocsp_file"]), nil
}

// aboutStaple reports whether Exim's words are about the OCSP response, which it reads after it has accepted certificate and key.
func aboutStaple(said string) bool { return strings.Contains(strings.ToLower(said), "ocsp") }
