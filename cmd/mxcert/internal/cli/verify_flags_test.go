package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/report"
)

// Words that are wrong are refused before any question and any connection: what is wrong, why, and what to type instead.
func TestVerifyBadInput(t *testing.T) {
	t.Parallel()
	empty, binary := filepath.Join(t.TempDir(), "empty.pem"), filepath.Join(t.TempDir(), "root.der")
	for path, text := range map[string]string{empty: "", binary: "\x30\x82"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	const good = "example.org"
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--domain"}, []string{"flag needs an argument: --domain"}},
		{[]string{"--domain", ""}, []string{`--domain "" is not the name of a mail domain: it is empty`, "for example: mxcert verify --domain example.org"}},
		{[]string{"--domain", "."}, []string{"it is empty"}},
		{[]string{"--domain", "exa mple.org"}, []string{"only letters, digits, hyphens and dots are allowed"}},
		{[]string{"--domain", "a..b"}, []string{"it has an empty label"}},
		{[]string{"--domain", "*.example.org"}, []string{"a wildcard stands for no single name"}},
		{[]string{"--domain", "https://example.org/"}, []string{"this is a URL"}},
		{[]string{"--domain", strings.Repeat("a", 64) + ".org"}, []string{"a label of more than 63 characters"}},
		{[]string{"--domain", "example.org\x1b[31m"}, []string{`--domain "example.org [31m"`}},
		{[]string{"--domain", "localhost"}, []string{"it has a single label"}},
		{[]string{"--domain", "192.0.2.1"}, []string{"this is an address, and mail goes to a domain", "for example: mxcert verify --host 192.0.2.1"}},
		{[]string{"--domain", "[2001:db8::1]"}, []string{"this is an address", "for example: mxcert verify --host 2001:db8::1"}},
		{[]string{"--domain", "postmaster@example.org"}, []string{"this is a mail address", "for example: mxcert verify --domain example.org"}},
		{[]string{"--host", ""}, []string{`--host "" is neither the name nor the address of a host: it is empty`}},
		{[]string{"--host", "mx.example.org:25"}, []string{"only letters, digits, hyphens and dots are allowed", "--host mx.example.org --port 25"}},
		{[]string{"--host", "mx.example.org", "--domain", good}, []string{"use either --host or --domain"}},
		{[]string{"--domain", good, "mx"}, []string{"leave out the names of certificates (mx)"}},
		{[]string{"--domain", good, "--port", "0"}, []string{"--port is a number from 1 to 65535, not 0"}},
		{[]string{"--domain", good, "--port", "smtp"}, []string{"--port is a number from 1 to 65535, not smtp"}},
		{[]string{"--domain", good, "--port", ""}, []string{`not ""`}},
		{[]string{"--port", "25"}, []string{"--port needs --host or --domain"}},
		{[]string{"--domain", good, "--at", "tomorrow"}, []string{`--at "tomorrow" is not a time`, "2027-01-31T12:00:00Z", "for example: mxcert verify --domain example.org --at +30d"}},
		{[]string{"--domain", good, "--at", ""}, []string{`--at "" is not a time`}},
		{[]string{"--domain", good, "--at", "2027-02-30"}, []string{"is not a time"}},
		{[]string{"--domain", good, "--at", "+999999d"}, []string{"is not a time"}},
		{[]string{"--domain", good, "--at", "0001-01-01"}, []string{"is not a time"}},                // the zero time means now
		{[]string{"--domain", good, "--at", "9999-12-31T23:59:59-23:59"}, []string{"is not a time"}}, // JSON has no such year
		{[]string{"--domain", good, "--for", "dana"}, []string{`there is no kind of verdict "dana"`, "opportunistic, pkix, dane, mta_sts, requiretls"}},
		{[]string{"--domain", good, "--connections", "0"}, []string{"--connections is a number from 1 to 50, not 0"}},
		{[]string{"--domain", good, "--connections", "many"}, []string{"not many"}},
		{[]string{"--domain", good, "--resolver", "dns.example"}, []string{`--resolver "dns.example" is not the address of a resolver: a resolver must be an IP address`, "tls://NAME@ADDRESS"}},
		{[]string{"--domain", good, "--resolver", ""}, []string{`--resolver "" is not`}},
		{[]string{"--domain", good, "--resolver", "192.0.2.1:0"}, []string{"the port is not a number from 1 to 65535"}},
		{[]string{"--domain", good, "--resolver", "https://192.0.2.1/dns-query"}, []string{"is not the address of a resolver"}},
		{[]string{"--domain", good, "--roots", "/nonexistent.pem"}, []string{"--roots: open /nonexistent.pem: no such file or directory"}},
		{[]string{"--domain", good, "--roots", empty}, []string{"holds no PEM certificate", "openssl x509 -inform DER"}},
		{[]string{"--domain", good, "--roots", binary}, []string{"holds no PEM certificate"}},
		{[]string{"--domain", good, "--roots", "/dev/zero"}, []string{"--roots: /dev/zero is larger than 16 MiB"}},
		{[]string{"--domain", good, "--roots", pipe}, []string{"holds no PEM certificate"}}, // nobody ever writes into it
		{[]string{"--domain", good, "--roots", ""}, []string{"--roots: the name of the file is empty"}},
		{[]string{"--domain", good, "--timeout", "-1s"}, []string{"--timeout must not be negative"}},
		{[]string{"--remote"}, []string{"unknown flag: --remote"}},
	} {
		got := runAlone(append([]string{"verify"}, c.args...)...)
		if got.code != report.CodeUsage || got.stdout != "" {
			t.Errorf("%q: exit code %d, %q", c.args, got.code, got.stdout)
		}
		for _, want := range c.want {
			if !strings.Contains(got.stderr, want) {
				t.Errorf("%q: %q is missing in:\n%s", c.args, want, got.stderr)
			}
		}
		asJSON := runAlone(append([]string{"--json", "verify"}, c.args...)...)
		var r struct {
			Error *report.Error `json:"error"`
		}
		if err := json.Unmarshal([]byte(asJSON.stdout), &r); err != nil || r.Error == nil || r.Error.Message == "" || asJSON.code != report.CodeUsage {
			t.Errorf("%q with --json: exit code %d, %v: %s", c.args, asJSON.code, err, asJSON.stdout)
		}
	}
}

// runAlone runs a command line for which there is no configuration.
func runAlone(args ...string) result {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := Run(ctx, testRelease, append([]string{"-c", "/nonexistent/mxcert.yaml"}, args...), &stdout, &stderr)
	return result{code: report.Code(code), stdout: stdout.String(), stderr: stderr.String()}
}

func TestTimeArgument(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2027-01-31":                "2027-01-31T00:00:00Z",
		"2027-01-31T12:00:00+01:00": "2027-01-31T11:00:00Z",
		"+30d":                      "2026-12-29T12:00:00Z",
		"-2h":                       "2026-11-29T10:00:00Z",
		"+90s":                      "2026-11-29T12:01:30Z",
		"+15m":                      "2026-11-29T12:15:00Z",
		"-99999d":                   "1753-02-14T12:00:00Z",
	} {
		if got, err := timeArgument(text, true, now); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v; want %s", text, got, err, want)
		}
	}
	if got, err := timeArgument("", false, now); err != nil || !got.IsZero() {
		t.Errorf("%v, %v", got, err)
	}
}

func TestNamesOfOthers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Example.ORG.":      "example.org",
		"bücher.example":    "xn--bcher-kva.example",
		"MX_1.example.org":  "mx_1.example.org",
		"_dmarc.example.no": "_dmarc.example.no",
	} {
		if got, err := mailDomain(text); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{"[2001:DB8::1]": "2001:db8::1", "192.0.2.1": "192.0.2.1", "MX.example.org": "mx.example.org"} {
		if got, err := hostArgument(text); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
}

func TestShellLine(t *testing.T) {
	t.Parallel()
	if got, want := shellLine("dig", "+dnssec", "x;reboot'$(id)`.example", "", "3 1 1 ab"), `dig +dnssec 'x;reboot'\''$(id)`+"`"+`.example' '' '3 1 1 ab'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
