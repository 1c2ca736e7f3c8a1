package configs

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestSecretRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := write("good", "the value\n", 0o600)
	crlf := write("crlf", "the value\r\n", 0o400)
	write("group", "the value", 0o640)
	write("world", "the value", 0o604)
	write("empty", "\n", 0o600)
	write("large", strings.Repeat("x", maxSecret+1), 0o600)
	loose := write("loose", "the value\n\n", 0o644)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(credentialsEnv, dir)
	t.Setenv("MXCERT_TEST_SECRET", "the value")
	t.Setenv("MXCERT_TEST_EMPTY", "")
	tests := []struct {
		secret    Secret
		want, err string
	}{
		{"literal", "literal", ""},
		{"192.0.2.1:53", "192.0.2.1:53", ""},
		{"cred:good", "the value", ""},
		{"cred:crlf", "the value", ""},
		{"cred:group", "the value", ""}, // its group is the process's own
		{Secret("file:" + good), "the value", ""},
		{Secret("file:" + crlf), "the value", ""},
		{Secret("file:" + loose), "the value\n", ""},
		{"env:MXCERT_TEST_SECRET", "the value", ""},
		{"", "", "the secret is empty"},
		{"cred:world", "", "secret cred:world: " + dir + "/world has mode 0604, so everybody has access to it: chmod 0600 " + dir + "/world"},
		{"cred:empty", "", "secret cred:empty: it is empty"},
		{"cred:large", "", "larger than 64 KiB"},
		{"cred:pipe", "", "not a regular file"},
		{"cred:missing", "", "secret cred:missing: not in " + dir + ", and not in /etc/mxcert/credentials: put the value there, mode 0640, owner root, group mxcert"},
		{"cred:../good", "", "takes the name of a file, not a path"},
		{"cred:..", "", "takes the name of a file, not a path"},
		{"file:good", "", "takes an absolute path"},
		{Secret("file:" + dir), "", "not a regular file"},
		{Secret("file:" + dir + "/missing"), "", "no such file"},
		{"env:MXCERT_TEST_MISSING", "", "secret env:MXCERT_TEST_MISSING: the environment does not have this variable"},
		{"env:MXCERT_TEST_EMPTY", "", "secret env:MXCERT_TEST_EMPTY: it is empty"},
		{"env:A B", "", "takes the name of an environment variable"},
	}
	for _, tt := range tests {
		got, err := tt.secret.Read()
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: Read() = %q, %v; want %q, %q", string(tt.secret), got, err, tt.want, tt.err)
		}
	}
}

func TestSecretFallback(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(second, "eab"), []byte("the value"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", first} {
		if got, err := readCredential(dir, second, "eab"); got != "the value" || err != nil {
			t.Errorf("with %q: %q, %v", dir, got, err)
		}
	}
	_, err := readCredential("", second, "tsig")
	if want := "$CREDENTIALS_DIRECTORY is not set, and not in " + second; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("missing: %v, want %s", err, want)
	}
	// What is in the first place and refused there is not looked for in the second.
	if err := os.WriteFile(filepath.Join(first, "eab"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(first, "eab"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := readCredential(first, second, "eab"); err == nil {
		t.Errorf("a file that everybody can read was passed over, result %q", got)
	}
}

// owned is a file with a mode and a group.
type owned struct {
	fs.FileInfo
	mode fs.FileMode
	gid  uint32
}

func (o owned) Mode() fs.FileMode { return o.mode }
func (o owned) Sys() any          { return &syscall.Stat_t{Gid: o.gid} }

func TestSecretGroup(t *testing.T) {
	const foreign = 54321
	own := uint32(os.Getegid())
	tests := []struct {
		mode fs.FileMode
		gid  uint32
		err  string
	}{
		{0o600, foreign, ""},
		{0o640, own, ""},
		{0o440, 0, ""}, // what systemd makes of a credential for a user
		{0o640, foreign, "has mode 0640, so its group has access to it"},
		{0o660, foreign, "has mode 0660, so its group has access to it"},
		{0o644, own, "has mode 0644, so everybody has access to it"},
		{0o602, own, "has mode 0602, so everybody has access to it"},
	}
	for _, tt := range tests {
		err := private(owned{mode: tt.mode, gid: tt.gid})
		if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("mode %04o, group %d: %v, want %q", tt.mode, tt.gid, err, tt.err)
		}
	}
}

// holdsSecret knows the variables that the tests use.
func holdsSecret(_, variable string) bool {
	return !slices.Contains([]string{"DNSUPDATE_NAMESERVER", "DNSUPDATE_TSIG_KEY", "DNSUPDATE_TSIG_ALGORITHM", "DNSUPDATE_TTL"}, variable)
}

// TestWhatIsASecret: what is shown, and what is warned of, follows the same answer, for the provider that a section has or
// inherits.
func TestWhatIsASecret(t *testing.T) {
	const text = `
acme: {agree_tos: true, directory: "https://ca.example/dir"}
dns: {provider: one, env: {A_B: literal1, C_D: "literal2"}}
certificates:
  - {name: mx, domains: [mx.example.org], deploy: [{files: {combined: /etc/a.pem, unit: postfix.service}}]}
  - {name: own, domains: [own.example.org], dns: {env: {A_B: literal3}}, deploy: [{files: {combined: /etc/b.pem, unit: postfix.service}}]}
  - {name: two, domains: [two.example.org], dns: {provider: two, env: {A_B: literal4}}, deploy: [{files: {combined: /etc/c.pem, unit: postfix.service}}]}
`
	c, err := loadBytes([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what   string
		secret func(provider, variable string) bool
		hides  string
		warns  string
	}{
		{"all", nil, "1234", "dns.env.A_B dns.env.C_D certificates[1].dns.env.A_B certificates[2].dns.env.A_B"},
		{"none", func(string, string) bool { return false }, "", ""},
		{"a variable", func(_, variable string) bool { return variable == "C_D" }, "2", "dns.env.C_D"},
		{"those of a provider", func(provider, _ string) bool { return provider == "two" }, "4", "certificates[2].dns.env.A_B"},
		{"one of a provider", func(provider, variable string) bool { return provider == "one" && variable == "A_B" }, "13", "dns.env.A_B certificates[1].dns.env.A_B"},
	} {
		shown, err := c.Effective(tt.secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{"1", "2", "3", "4"} {
			if there := strings.Contains(string(shown), "literal"+n); there == strings.Contains(tt.hides, n) {
				t.Errorf("%s: literal%s is shown: %t", tt.what, n, there)
			}
		}
		var paths []string
		for _, w := range c.Warnings(tt.secret) {
			paths = append(paths, w.Path)
			if strings.Contains(w.Text, "literal") || !strings.Contains(w.Message, "the secret stands in the configuration file") {
				t.Errorf("%s: %s", tt.what, w)
			}
		}
		if got := strings.Join(paths, " "); got != tt.warns {
			t.Errorf("%s: warnings at %q", tt.what, got)
		}
	}
	if c.DNS.Env["A_B"] != "literal1" {
		t.Error("what is shown has replaced what is")
	}
	if c.Forget(); len(c.Warnings(nil)) > 0 {
		t.Error("warnings without their places")
	}
}

func TestSecretIsHidden(t *testing.T) {
	c := struct {
		S   Secret
		Env map[string]Secret
	}{"very-secret", map[string]Secret{"A": "very-secret", "B": "cred:b"}}
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%q", c), string(data)} {
		if strings.Contains(s, "very-secret") || !strings.Contains(s, "cred:b") {
			t.Errorf("printed as %s", s)
		}
	}
}

func TestRedacted(t *testing.T) {
	tests := []struct{ line, want string }{
		{`    hmac_key: abc`, `    hmac_key: ***`},
		{`    hmac_key: "a b" # c`, `    hmac_key: ** ** # c`},
		{`    hmac_key: 'abc`, `    hmac_key: ****`},
		{`    hmac_key abc`, `    hmac_key ***`},
		{`    hmac_key=abc`, `    hmac_key=***`},
		{`    hmac_key: a,b{c}#d [e]`, `    hmac_key: ******** ***`},
		{`    hmac_key: cred:eab`, `    hmac_key: cred:eab`},
		{`    A_TOKEN: "file:/x"`, `    A_TOKEN: "file:/x"`},
		{`env: {A_B: cred:x, C_D: "abc", E_F: "env:Y"}`, `env: {A_B: cred:x, C_D: *****, E_F: "env:Y"}`},
		{`env: {A_B: cred:x, C_D: abc}`, `env: {A_B: cred:x, C_D: ****`},
		{`    private_key: /etc/exim4/exim.key`, `    private_key: /etc/exim4/exim.key`},
		{`    keys: [ec256]`, `    keys: [ec256]`},
		{`    api-key: abc`, `    api-key: ***`},
	}
	for _, tt := range tests {
		if got := redact(tt.line); got != tt.want {
			t.Errorf("redact(%q) = %q, want %q", tt.line, got, tt.want)
		}
	}
}
