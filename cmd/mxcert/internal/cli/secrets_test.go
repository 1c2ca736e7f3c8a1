package cli

import (
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// confidant knows all secrets of a host, and everything that was said.
type confidant struct {
	*host
	environment []string
	said        strings.Builder
}

// run runs mxcert in a process of its own, with the secret in its environment, and remembers what it printed.
func (c *confidant) run(args ...string) string {
	c.t.Helper()
	exe, err := os.Executable()
	c.check(err)
	cmd := exec.CommandContext(c.t.Context(), exe, append([]string{"-c", c.config, "--log-level", "debug"}, args...)...)
	cmd.Args[0] = "mxcert"
	cmd.Env = append([]string{"GORACE=" + noSleep}, c.environment...)
	out, _ := cmd.CombinedOutput() // failures are wanted too
	c.said.WriteString("mxcert " + strings.Join(args, " ") + "\n")
	c.said.Write(out)
	return string(out)
}

// secrets are the configured ones, and every line of every private key that was ever stored.
func (c *confidant) secrets(configured ...string) []string {
	c.t.Helper()
	secrets := configured
	c.check(filepath.WalkDir(c.Path("state"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		var file struct{ Key string }
		switch {
		case err != nil || entry.Name() == "privkey.pem":
		case json.Unmarshal(text, &file) == nil:
			text = []byte(file.Key)
		default:
			return nil
		}
		for _, line := range strings.Split(string(text), "\n") {
			if len(line) > 20 && !strings.Contains(line, "-----") {
				secrets = append(secrets, line)
			}
		}
		return err
	}))
	return secrets
}

// No secret is in what mxcert prints or logs, for a person or as JSON, when all is well or when it fails, nor in what it
// tells hooks, nor in files with wide modes.
func TestSecretsAreKept(t *testing.T) {
	t.Parallel()
	hmac := base64.RawURLEncoding.EncodeToString([]byte("the binding of the account: 7f3a"))
	c := &confidant{host: newHost(t, lab.Options{CA: ca.Options{EAB: map[string]string{"kid-1": hmac}}}, lab.ConfigOptions{})}
	c.environment = []string{"THE_SECRET=" + c.Secret()}
	tsig := "file:" + c.Path("credentials", "tsig")
	for _, event := range []string{"pre", "deploy", "post", "fail"} {
		c.hook(event+".d/note", `echo "$MXCERT_EVENT" >> "$lab/ran"; env > "$lab/$MXCERT_EVENT.env"; cat > "$lab/$MXCERT_EVENT.json"; tr '\0' ' ' < /proc/$PPID/cmdline > "$lab/$MXCERT_EVENT.cmdline"; cat "$lab/$MXCERT_EVENT".*; test $MXCERT_EVENT = pre`)
	}
	c.edit("agree_tos: true", "agree_tos: true\n  eab: {kid: kid-1, hmac_key: '"+hmac+"'}")
	commands := func() {
		for _, command := range []string{"renew --now", "renew --now --json --progress none", "status", "status --json", "history", "history --json",
			"verify", "check", "check --json", "config show", "renew --dry-run", "deploy mx"} {
			c.run(strings.Fields(command)...)
		}
	}
	fail := func() {
		for _, command := range []string{"renew --now", "renew --now --json", "status", "status --json"} {
			c.run(strings.Fields(command)...)
		}
	}
	commands()
	c.edit(tsig, "env:THE_SECRET")
	fail()                               // in hooks alone
	c.edit("env:THE_SECRET", c.Secret()) // the literal value: allowed, with a warning
	commands()
	if !strings.Contains(c.said.String(), "served") || !strings.Contains(c.said.String(), "note: exit status 1") {
		t.Fatalf("nothing was in service, or no hook failed: the test proves nothing\n%s", &c.said)
	}
	log := c.daemon()
	log.awaitLog("sleeps")

	// Failures at the places where the secrets are used.
	c.check(c.World.Replace(`mx.example.org. A 127.0.0.1`)) // any change: what follows is not cached
	c.edit(c.Secret(), "bm90"+c.Secret())
	log.awaitLog("configuration loaded")
	fail() // BADSIG
	c.edit("bm90"+c.Secret(), "%%"+c.Secret())
	fail() // not base64
	c.edit("%%"+c.Secret(), c.Secret())
	c.check(os.RemoveAll(c.Path("state", "accounts")))
	c.edit(hmac, "AAAA"+hmac)
	fail() // the binding is refused

	// Mistakes in the lines of the secrets.
	for _, mistake := range [][2]string{
		{"DNSUPDATE_TSIG_SECRET:", "DNSUPDATE_TSIG_SECRET"}, {"DNSUPDATE_TSIG_SECRET:", "DNSUPDATE_TSIG_SECRET: ["}, {"hmac_key:", "hmac_kye:"},
		{"hmac_key: '", "hmac_key: "}, {"    DNSUPDATE_TSIG_SECRET", "  \tDNSUPDATE_TSIG_SECRET"}, {"    DNSUPDATE_TSIG_SECRET", "  DNSUPDATE_TSIG_SECRET"},
	} {
		good, err := os.ReadFile(c.config)
		c.check(err)
		c.edit(mistake[0], mistake[1])
		for _, command := range []string{"check", "check --json", "renew --json", "status"} {
			c.run(strings.Fields(command)...)
		}
		log.awaitLog("stays in force")
		c.write(string(good))
	}
	log.stop()
	c.said.WriteString(log.log.String())
	for _, pattern := range []string{"*.env", "*.json", "*.cmdline", "state/running.yaml", "state/daemon.json", "state/lineages/mx/record.json"} {
		files, err := filepath.Glob(c.Path(pattern))
		if err != nil || len(files) == 0 {
			t.Errorf("there is no %s (%v)", pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			c.check(err)
			c.said.Write(text)
		}
	}
	secrets := c.secrets(c.Secret(), hmac, "THE_SECRET="+c.Secret())
	if len(secrets) < 8 {
		t.Errorf("only %d secrets are known", len(secrets))
	}
	for _, secret := range secrets {
		if at := strings.Index(c.said.String(), secret); at >= 0 {
			t.Errorf("a secret was told: %s", c.said.String()[max(0, at-300):at+len(secret)])
		}
	}
	c.check(filepath.WalkDir(c.Path("state"), func(path string, entry fs.DirEntry, err error) error {
		if info, infoErr := entry.Info(); err == nil && infoErr == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
		return err
	}))
}
