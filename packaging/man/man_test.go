package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert/commands"
	"mxcert/configs"
)

func TestPages(t *testing.T) {
	all := made(t)
	for _, c := range []struct{ page, want string }{
		{"mxcert.1", ".SH EXIT STATUS\n"},
		{"mxcert.1", "\n.B 78\nBad configuration."},
		{"mxcert.1", ".SH FILES\n"},
		{"mxcert.1", `\fB\-c\fP, \fB\-\-config\fP=FILE`},
		{"mxcert.1", "(default /etc/mxcert/mxcert.yaml)"},
		{"mxcert.1", `\fBmxcert\-account(1)\fP`},
		{"mxcert-renew.1", `.TH "MXCERT-RENEW" "1" "2026-11-29" "mxcert 1.2" "User commands"`},
		{"mxcert-renew.1", `\fBmxcert renew [OPTION…] [NAME…]\fP`},
		{"mxcert-renew.1", ".TP\n\\fB\\-\\-dry\\-run\\fP\n"},
		{"mxcert-revoke.1", ".SH EXAMPLES\n.EX\n"},
		{"mxcert-revoke.1", ".SH GLOBAL OPTIONS\n\\fB\\-\\-config\\fP, "},
		{"mxcert-tlsa.1", `\fBmxcert\-tlsa\-roll(1)\fP`},
		{"mxcert-tlsa-show.1", ".TP\n\\fB\\-\\-format\\fP=FORMAT\n"},
		{"mxcert-account-show.1", `\fBmxcert\-account(1)\fP, \fBmxcert.yaml(5)\fP, \fBmxcert(7)\fP, \fBmxcert.service(8)\fP`},
		{"mxcert.yaml.5", "\n.B acme.directory\n"},
		{"mxcert.yaml.5", "\n.B certificates[].deploy[].dovecot, exim, files, postfix\n"},
		{"mxcert.yaml.5", "\n.B certificates[].deploy[].KIND.reload\n"},
		{"mxcert.yaml.5", "\n.B dns.zones.NAME.provider\n"},
		{"mxcert.yaml.5", ".SH EXAMPLES\nOne host with Debian's Exim, and BIND for the TXT records.\n.PP\n.EX\nacme:\n"},
		{"mxcert.7", `.TH "MXCERT" "7" "2026-11-29" "mxcert 1.2"`},
		{"mxcert-hooks.7", "MXCERT_EVENT"},
		{"mxcert-json.7", "spki_sha256"},
		{"mxcert-notify.7", `"cred:ping\-url"`},
		{"mxcert-senders.7", `senders\-differ`},
		{"mxcert-dane.7", "mxcert tlsa roll mx \\-\\-emergency"},
	} {
		if !strings.Contains(all[c.page], c.want) {
			t.Errorf("%s does not contain %q:\n%.3000s", c.page, c.want, all[c.page])
		}
	}
	for _, hidden := range []string{"mxcert-helper.1", "mxcert-help.1"} {
		if _, ok := all[hidden]; ok {
			t.Errorf("%s describes a command that is hidden", hidden)
		}
	}
	for name, page := range all {
		if strings.Contains(page, "[flags]") || strings.Contains(page, "Auto generated") || strings.Contains(page, "=false") {
			t.Errorf("%s has words of cobra:\n%s", name, page)
		}
	}
}

// The settings of targets are there once, and the examples are good configurations.
func TestSettingsPage(t *testing.T) {
	page := made(t)["mxcert.yaml.5"]
	if n := strings.Count(page, "Mode of the files: "); n != 1 {
		t.Errorf("the mode of targets is described %d times", n)
	}
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, file := range files {
		check := commands.Root("1.2")
		check.SetArgs([]string{"check", "-c", file})
		if err := check.Execute(); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if len(line) > 81 && !strings.HasPrefix(line, "#") {
				t.Errorf("%s: too long for a page: %s", file, line)
			}
		}
	}
}

// Every command that mxcert shows has a page, and every setting of the schema's top level an entry.
func TestNothingIsLeftOut(t *testing.T) {
	all := made(t)
	for _, cmd := range commands.Root("1.2").Commands() {
		if _, ok := all["mxcert-"+cmd.Name()+".1"]; ok != (cmd.IsAvailableCommand() && cmd.Name() != "help") {
			t.Errorf("mxcert %s: there is a page: %v", cmd.Name(), ok)
		}
	}
	for key := range strings.SplitSeq("acme dns renewal certificates state hooks log", " ") {
		if !strings.Contains(string(configs.Schema()), `"`+key+`": {`) || !strings.Contains(all["mxcert.yaml.5"], "\n.B "+key+"\n") {
			t.Errorf("mxcert.yaml(5) has no entry for %s", key)
		}
	}
}

// mandoc has nothing to complain about, not even in mxcert.service(8), which is written by hand.
func TestMandocIsContent(t *testing.T) {
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") != "" {
			t.Fatal("mandoc is missing: apt-get install mandoc")
		}
		t.Skip("mandoc is missing: apt-get install mandoc")
	}
	dir := t.TempDir()
	if err := run([]string{"--date", "2026-11-29", "--version", "1.2", dir}); err != nil {
		t.Fatal(err)
	}
	service, err := os.ReadFile("mxcert.service.8")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("@DATE@", "2026-11-29", "@VERSION@", "1.2").Replace(string(service))
	if err := os.WriteFile(filepath.Join(dir, "man7", "mxcert.service.8"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "man*", "*"))
	if err != nil || len(files) < 30 {
		t.Fatalf("%d pages, %v", len(files), err)
	}
	out, err := exec.CommandContext(t.Context(), mandoc, append([]string{"-T", "lint", "-W", "warning"}, files...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
}

func TestArguments(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "name one directory"},
		{[]string{"a", "b"}, "name one directory"},
		{[]string{"--date", "yesterday", "a"}, "--date"},
	} {
		if err := run(c.args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                     "plain",
		"MAIN_TLS_ENABLE *":         `MAIN\_TLS\_ENABLE \*`,
		"text:\n\n  mxcert status":  "text:\n\n```\n  mxcert status\n```",
		"_acme-challenge.<NAME> [x": `\_acme-challenge.\<NAME> \[x`,
	} {
		if got := markdown(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func made(t *testing.T) map[string]string {
	t.Helper()
	all, err := pages(edition{version: "1.2", date: time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
