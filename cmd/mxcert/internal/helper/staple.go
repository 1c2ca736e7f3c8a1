package helper

import (
	"context"
	"fmt"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/discover"
	"mxcert/deploy/ocsp"
)

// Stapling returns Exim's tls_ocsp_file as its configuration has it; "" if it is not set. The helper asks Exim if this process lacks the
// rights to read its configuration.
func (c *Client) Stapling(ctx context.Context, want wanted.Certificate) (string, error) {
	if c.Directory == "" {
		return discover.Stapling(ctx)
	}
	conn, err := c.dial(ctx, Install)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	var answer installAnswer
	if err := conn.ask(ctx, installOrder{Verb: verbStapling, Name: want.Name}, &answer); err != nil {
		return "", err
	}
	return answer.Setting, answer.Error.orNil()
}

// provenStaple accepts an OCSP response if the issuer of the certificate has signed it, and if it says that the certificate is good. It may have
// expired: Exim goes on with a response that it has read, until it reads its files again.
func provenStaple(b *bundle.Bundle, der []byte) error {
	if len(der) == 0 {
		return nil
	}
	issuer, err := ocsp.Issuer(b)
	if err != nil {
		return err
	}
	r, err := ocsp.Parse(der, b.Leaf(), issuer, time.Now())
	if err != nil {
		return err
	}
	if r.Status != ocsp.Good {
		return fmt.Errorf("the OCSP response says that the certificate is %s", r.Status)
	}
	return nil
}
