package judges

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"mxcert/packaging/e2e/world"
)

// fingerLevels are the levels of posttls-finger. Its "secure" matches the MX host's name.
var fingerLevels = []string{"dane", "dane-only", "secure"}

var fingerTLS = regexp.MustCompile(`(Verified|Trusted|Untrusted|Anonymous) TLS connection established`)

// finger asks posttls-finger at all its levels.
func finger(ctx context.Context, h *world.Host, s *seat) (string, error) {
	if s.later != 0 && !s.zoneTime {
		return "-", nil
	}
	var answers []string
	for _, level := range fingerLevels {
		argv := []string{"posttls-finger", "-c", "-t", "15", "-T", "15", "-F", "/etc/judges/anchors.pem", "-l", level, "-L", "summary,verbose", s.mailDomain()}
		if level == "secure" {
			argv = append(argv, s.host())
		}
		r, err := h.Run(ctx, s.then(argv...)...)
		if err != nil {
			return "", err
		}
		answers = append(answers, fingerAnswer(r.Stdout+r.Stderr))
	}
	return strings.Join(answers, " "), nil
}

func fingerAnswer(output string) string {
	m := fingerTLS.FindStringSubmatch(output)
	if m == nil {
		return "no"
	}
	return statuses[m[1]]
}

var opensslCode = regexp.MustCompile(`Verify return code: (\d+)`)

// openssl asks s_client: DANE with the row's TLSA records, which it is given, and PKIX with the host's name.
func openssl(ctx context.Context, h *world.Host, s *seat) (string, error) {
	dane := "-"
	records, err := s.tlsaRecords()
	if err != nil {
		return "", err
	}
	if len(records) > 0 {
		argv := []string{"-dane_tlsa_domain", s.host(), "-dane_ee_no_namechecks"}
		for _, record := range records {
			argv = append(argv, "-dane_tlsa_rrdata", record)
		}
		if dane, err = clientOf(ctx, h, s, argv...); err != nil {
			return "", err
		}
	}
	pkix, err := clientOf(ctx, h, s, "-verify_hostname", s.host())
	return dane + " " + pkix, err
}

func clientOf(ctx context.Context, h *world.Host, s *seat, argv ...string) (string, error) {
	argv = append([]string{"timeout", "15", "openssl", "s_client", "-starttls", "smtp", "-connect", s.ip + ":25", "-servername", s.host(), "-CAfile", "/etc/judges/anchors.pem"}, argv...)
	if s.later != 0 {
		argv = append(argv, "-attime", fmt.Sprint(s.pki.now.Add(s.later).Unix()))
	}
	r, err := h.RunInput(ctx, "QUIT\n", argv...)
	if err != nil {
		return "", err
	}
	return opensslAnswer(r.Stdout + r.Stderr), nil
}

func opensslAnswer(output string) string {
	if strings.Contains(output, "usable TLSA") {
		return "unusable"
	}
	m := opensslCode.FindStringSubmatch(output)
	if m == nil || !strings.Contains(output, "Cipher is") || strings.Contains(output, "Cipher is (NONE)") {
		return "no"
	}
	if m[1] != "0" {
		return m[1]
	}
	return "ok"
}

// gnutls asks danetool, which asks DNS itself, and gnutls-cli.
func gnutls(ctx context.Context, h *world.Host, s *seat) (string, error) {
	if s.later != 0 {
		return "-", nil
	}
	r, err := h.Run(ctx, "timeout", "20", "danetool", "--check", s.host(), "--port", "25", "--starttls-proto", "smtp", "--local-dns")
	if err != nil {
		return "", err
	}
	dane := danetoolAnswer(r.Stdout + r.Stderr)
	r, err = h.Run(ctx, "timeout", "15", "gnutls-cli", "--starttls-proto=smtp", "--x509cafile=/etc/judges/anchors.pem", "--verify-hostname="+s.host(), "--sni-hostname="+s.host(), "-p", "25", s.ip)
	if err != nil {
		return "", err
	}
	pkix := "no"
	switch {
	case strings.Contains(r.Stdout, "Status: The certificate is trusted"):
		pkix = "ok"
	case strings.Contains(r.Stdout, "Status: The certificate is NOT trusted"):
		pkix = "U"
	}
	return dane + " " + pkix, nil
}

func danetoolAnswer(output string) string {
	switch {
	case strings.Contains(output, "Verification: Certificate matches"):
		return "ok"
	case strings.Contains(output, "Verification: "):
		return "no"
	}
	return "-"
}

// then runs a program with a resolver that has the time of the row. The program's own clock is that of the machine.
func (s *seat) then(argv ...string) []string {
	if s.later == 0 {
		return argv
	}
	script := "mount --bind /etc/judges/resolv-" + resolverAt(s.later) + " /etc/resolv.conf && exec \"$@\""
	return append([]string{"unshare", "--mount", "sh", "-c", script, "sh"}, argv...)
}
