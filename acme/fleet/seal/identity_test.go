package seal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestTheFileOfAgeKeygenIsRead(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	head := "# created: 2026-01-02T03:04:05Z\n# public key: " + key.Recipient().String() + "\n"
	for name, text := range map[string]string{
		"as written":         head + key.String() + "\n",
		"alone":              key.String(),
		"with spaces":        head + "\n  " + key.String() + "\t \n\n",
		"with lines of DOS":  strings.ReplaceAll(head+key.String()+"\n", "\n", "\r\n"),
		"comment at its end": key.String() + "\n# the end",
	} {
		identity, err := ParseIdentity(text)
		if err != nil || string(identity.Recipient()) != key.Recipient().String() {
			t.Errorf("%s: %v, %v", name, identity, err)
		}
	}
}

func TestOtherIdentitiesAreRefused(t *testing.T) {
	one, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	secret := one.String()
	typo := []byte(secret)
	typo[30] = 'Q' + 'P' - typo[30]
	if typo[30] != 'Q' && typo[30] != 'P' {
		typo[30] = 'Q'
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":          {"", "there is no identity"},
		"comments only":  {"# public key: age1\n\n", "there is no identity"},
		"two":            {secret + "\n" + secret + "\n", "lines 1 and 2: there are two identities"},
		"post-quantum":   {"# c\n" + hybrid.String(), "line 2: it is a post-quantum identity"},
		"a plugin":       {"AGE-PLUGIN-YUBIKEY-1CANARYCANARY", "age plugin"},
		"SSH":            {"-----BEGIN OPENSSH PRIVATE KEY-----\nCANARY\n", "SSH"},
		"a TLS key":      {"-----BEGIN PRIVATE KEY-----\nCANARY\n", "TLS private key"},
		"SSH, public":    {"ssh-ed25519 AAAACANARY me@host", "public SSH key"},
		"passphrase":     {"-----BEGIN AGE ENCRYPTED FILE-----\nCANARY\n", "passphrase"},
		"passphrase, b":  {"age-encryption.org/v1\n-> scrypt CANARY\n", "passphrase"},
		"the recipient":  {one.Recipient().String(), "the public half"},
		"lower case":     {strings.ToLower(secret), "lower case"},
		"mixed case":     {secret[:40] + strings.ToLower(secret[40:]), "typo"},
		"a typo":         {string(typo), "typo"},
		"too short":      {secret[:len(secret)-1], "typo"},
		"too long":       {secret + "Q", "typo"},
		"garbage":        {"CANARY\x00\xff", "no identity of age"},
		"a huge file":    {strings.Repeat("# CANARY\n", 4000), "bytes, more than"},
		"another prefix": {"AGE-SECRET-KEY-1", "typo"},
	} {
		_, err := ParseIdentity(c.text)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		message := err.Error()
		if !strings.Contains(message, c.want) || !strings.Contains(message, "age-keygen -o") {
			t.Errorf("%s: the error is %q, want one with %q and the next step", name, message, c.want)
		}
		for _, canary := range []string{"CANARY", secret[20:30], strings.ToLower(secret[20:30])} {
			if strings.Contains(message, canary) {
				t.Errorf("%s: the error has a part of the file: %q", name, message)
			}
		}
	}
}

// An identity that ends up in a log, an error or a report shows its public half, also where it is a field of something else.
func TestAnIdentityNeverShowsItsSecret(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity, err := ParseIdentity(key.String())
	if err != nil {
		t.Fatal(err)
	}
	type exported struct {
		P *Identity
		V Identity
	}
	type hidden struct {
		p *Identity
		v Identity
	}
	var shown bytes.Buffer
	for _, value := range []any{
		identity, *identity, &identity, exported{identity, *identity}, &exported{identity, *identity}, hidden{identity, *identity},
		&hidden{identity, *identity}, []*Identity{identity}, []Identity{*identity}, map[string]*Identity{"x": identity}, []hidden{{identity, *identity}},
		fmt.Errorf("failed: %v", identity),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%T", "%08b", "%e", "%c"} {
			fmt.Fprintf(&shown, verb+"\n", value)
		}
		for _, handler := range []slog.Handler{slog.NewTextHandler(&shown, nil), slog.NewJSONHandler(&shown, nil)} {
			slog.New(handler).Info("m", "value", value, slog.Any("any", value), slog.Group("g", "v", value))
		}
		text, err := json.Marshal(value)
		if err == nil {
			shown.Write(text)
		}
	}
	prefix, groups, _ := split(strings.ToLower(key.String()))
	raw, err := decode(prefix, groups)
	if err != nil {
		t.Fatal(err)
	}
	scalar := identity.secrets().scalar.Bytes()
	all := strings.ToLower(shown.String())
	for _, secret := range []string{
		strings.ToLower(key.String()[16:40]), "secret-key", fmt.Sprintf("%x", raw[4:12]), fmt.Sprintf("%x", scalar[4:12]),
		strings.Trim(fmt.Sprintf("%d", raw[4:12]), "[]"), strings.Trim(fmt.Sprintf("%d", scalar[4:12]), "[]"), string(raw[4:12]), string(scalar[4:12]),
		strings.Trim(strings.ToLower(fmt.Sprintf("%#v", raw[4:12])), "[]byte{}"),
	} {
		if strings.Contains(all, secret) {
			t.Errorf("a secret is shown: %q", secret)
		}
	}
	public := "identity of " + string(identity.Recipient())
	text, err := json.Marshal(map[string]any{"i": identity})
	if err != nil || string(text) != `{"i":"`+public+`"}` {
		t.Errorf("as JSON it is %s, %v", text, err)
	}
	if got := fmt.Sprintf("%#v %v %s %x", *identity, identity, identity, identity); got != strings.Join([]string{public, public, public, public}, " ") {
		t.Errorf("it prints as %s", got)
	}
}
