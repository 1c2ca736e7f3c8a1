package adopt_test

import (
	"encoding/base64"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/cmd/mxcert/internal/adopt"
)

// The files of acme.sh are read as a shell reads them: each value here is compared with what sh makes of it.
func TestParseShell(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("A", 64) + "\n" + strings.Repeat("B", 20)
	text := strings.Join([]string{
		`Le_API='https://ca.example/dir'`, `Le_Double="https://ca.example/dir"`, `Le_Bare=https://ca.example/dir`, `Le_Empty=''`, `Le_None=`,
		`Le_Wrapped='__ACME_BASE64__START_` + long + `__ACME_BASE64__END_'`, `Le_After="1"`, `# Le_Comment='x'`, `export LE_CONFIG_HOME="/etc/acme"`, `  Le_Indented='x'`,
		`Le_Mixed='it'"'"'s'\ "a \"b\" \$c"`, `Le_Comment2='x'  # y`, `Le_Joined=a\`, `b`, `not an assignment`, `Le-Name='x'`,
	}, "\n") + "\n"
	got := adopt.ParseShell(text)
	want := map[string]string{
		"Le_API": "https://ca.example/dir", "Le_Double": "https://ca.example/dir", "Le_Bare": "https://ca.example/dir", "Le_Empty": "", "Le_None": "",
		"Le_Wrapped": "__ACME_BASE64__START_" + long + "__ACME_BASE64__END_", "Le_After": "1", "LE_CONFIG_HOME": "/etc/acme", "Le_Indented": "x",
		"Le_Mixed": `it's a "b" $c`, "Le_Comment2": "x", "Le_Joined": "ab",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	file := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range want {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", `. "$1" 2>/dev/null; printf %s "$`+name+`"`, "sh", file).Output()
		if err != nil || string(out) != value {
			t.Errorf("sh reads %s as %q, %v; want %q", name, out, err, value)
		}
	}
	if got := adopt.ParseShell("A='never closed\nB='x'\n"); got["A"] != "never closed\nB=x" && got["A"] != "never closed" {
		t.Errorf("%q", got)
	}
	if got := adopt.ParseShell("A=\"never closed\nB='x'\n"); got["A"] != "never closed" || got["B"] != "x" {
		t.Errorf("%q", got)
	}
}

// certbot's files are read as ConfigObj reads them.
func TestParseINI(t *testing.T) {
	t.Parallel()
	got := adopt.ParseINI(`# renew_before_expiry = 30 days
version = 2.1.0
[renewalparams]
server = "https://ca.example/dir"
renew_hook = 'a, b # c'
pre_hook = ""
post_hook = a  # b
installer = None
deploy_hook = '''a "x"
b'''
preferred_chain = ISRG Root X1
[[webroot_map]]
server = /var/www
`)
	want := map[string]string{"version": "2.1.0", "server": "https://ca.example/dir", "renew_hook": "a, b # c", "pre_hook": "", "post_hook": "a", "deploy_hook": "a \"x\"\nb", "preferred_chain": "ISRG Root X1"}
	if !maps.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A command that acme.sh keeps as base64 is decoded as a whole, or not at all.
func TestPlainAcmeSh(t *testing.T) {
	t.Parallel()
	const command = "/usr/local/sbin/install-certificate --owner Debian-exim --reload exim4.service"
	coded := base64.StdEncoding.EncodeToString([]byte(command))
	const start, end = "__ACME_BASE64__START_", "__ACME_BASE64__END_"
	for value, want := range map[string]string{command: command, start + coded + end: command, start + coded[:64] + "\n" + coded[64:] + "\n" + end: command, "": ""} {
		if got, ok := adopt.PlainAcmeSh(value); !ok || got != want {
			t.Errorf("%q: %q, %v", value, got, ok)
		}
	}
	for _, value := range []string{start + coded[:64], start + coded, start + "???" + end, start} {
		if got, ok := adopt.PlainAcmeSh(value); ok || got != "" {
			t.Errorf("%q: %q, %v", value, got, ok)
		}
	}
}

func TestProvider(t *testing.T) {
	t.Parallel()
	for plugin, want := range map[string]string{"cf": "cloudflare", "nsupdate": "rfc2136", "rfc2136": "rfc2136", "aws": "route53", "hetzner": "hetzner", "google": "gcloud", "mythic_beasts": "mythicbeasts",
		"gandi_livedns": "gandiv5", "certbot-hook": "certbot-hook", "standalone": ""} {
		if got := adopt.Provider(plugin); got != want {
			t.Errorf("%s: %q, want %q", plugin, got, want)
		}
	}
}
