package mailhost

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Served is what openssl saw on a port. The tool is not ours, so that our own client cannot agree with our own mistake.
type Served struct {
	Chain      []*x509.Certificate // as sent, the leaf first
	PEM        string              // the same
	Serial     string              // of the leaf, lower-case hex
	Names      []string            // its DNS names
	VerifyCode int                 // openssl's verify return code: 0 good, 10 expired, 18 self-signed, 20 no issuer, 62 name mismatch
	VerifyText string              // what openssl says of the code
	Output     string              // all that openssl printed
}

var verifyReturn = regexp.MustCompile(`Verify return code: (\d+) \((.*)\)`)

// ServedBy shakes hands inside the host with `openssl s_client`, by STARTTLS or at once, as the port wants. The chain is verified against the
// certificates of caFile, a path in the host, or the system's when it is empty, and against serverName where there is
// one; without it no SNI is sent. More arguments go to openssl: -tls1_2, -cipher … . A handshake that fails is
// an error that shows openssl's output.
func (h *Host) ServedBy(ctx context.Context, address, serverName, caFile string, more ...string) (Served, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	args := []string{"openssl", "s_client", "-connect", address, "-showcerts"}
	if d := dialectOf(address); !d.implicit {
		args = append(args, "-starttls", d.protocol)
	}
	if serverName != "" {
		args = append(args, "-servername", serverName, "-verify_hostname", serverName)
	} else {
		args = append(args, "-noservername")
	}
	if caFile != "" {
		args = append(args, "-CAfile", caFile)
	}
	r, err := h.RunInput(ctx, "QUIT\r\n", append(args, more...)...)
	s := Served{Output: r.Stdout + r.Stderr}
	if err != nil {
		return s, err
	}
	_, chain, _ := strings.Cut(r.Stdout, "\nCertificate chain\n") // before it, an OCSP response may contain a certificate
	for rest := []byte(chain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return s, fmt.Errorf("%s sent a certificate that does not parse: %w", address, err)
		}
		s.Chain = append(s.Chain, c)
		s.PEM += string(pem.EncodeToMemory(block))
	}
	verdict := verifyReturn.FindStringSubmatch(r.Stdout)
	if len(s.Chain) == 0 || verdict == nil {
		return s, fmt.Errorf("no TLS on %s, or a 454, which openssl does not read: it says\n%s", address, s.Output)
	}
	s.Serial, s.Names = hex.EncodeToString(s.Chain[0].SerialNumber.Bytes()), s.Chain[0].DNSNames
	s.VerifyText = verdict[2]
	s.VerifyCode, err = strconv.Atoi(verdict[1])
	return s, err
}

// Unit returns properties of a systemd unit: Unit(ctx, "exim4.service", "ActiveState", "MainPID").
func (h *Host) Unit(ctx context.Context, unit string, properties ...string) (map[string]string, error) {
	out, err := h.Must(ctx, "systemctl", "show", unit, "--property", strings.Join(properties, ","))
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			values[name] = value
		}
	}
	return values, nil
}

// unitReloaded is the MESSAGE_ID under which systemd journals that a reload job is done, successful or not.
const unitReloaded = "7b05ebc668384222baa8881179cfda54"

// ReloadCount counts the reloads of a unit since the host first booted.
func (h *Host) ReloadCount(ctx context.Context, unit string) (int, error) {
	// The journal is flushed first: a job's end may precede its line.
	if _, err := h.Must(ctx, "journalctl", "--sync"); err != nil {
		return 0, err
	}
	r, err := h.Run(ctx, "journalctl", "--quiet", "--no-pager", "-o", "cat", "MESSAGE_ID="+unitReloaded, "UNIT="+unit)
	return strings.Count(r.Stdout, "\n"), err
}

// EximPID is the number of Exim's daemon inside the host. It stays the same over reloads and changes with a restart.
func (h *Host) EximPID() (int, error) {
	text, err := h.Get("/run/exim4/exim.pid")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
