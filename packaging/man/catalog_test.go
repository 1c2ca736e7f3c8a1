package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mxcert/cmd/mxcert/commands"
	"mxcert/hooks/journal"
)

// explanation is an entry of the message catalogue.
type explanation struct {
	event, id, text string
	headers         map[string]string
}

// catalog reads packaging/systemd/mxcert.catalog, of which systemd.io says: "-- ID", headers, an empty line, a text.
func catalog(t *testing.T) (list []explanation) {
	t.Helper()
	text, err := os.ReadFile("../systemd/mxcert.catalog")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range regexp.MustCompile(`(?m)^# ([a-z-]+)\n-- ([0-9a-f]{32})\n`).FindAllStringSubmatchIndex(string(text), -1) {
		rest := string(text[part[1]:])
		if next := strings.Index(rest, "\n# "); next >= 0 {
			rest = rest[:next]
		}
		head, body, _ := strings.Cut(rest, "\n\n")
		e := explanation{event: string(text[part[2]:part[3]]), id: string(text[part[4]:part[5]]), text: body, headers: map[string]string{}}
		for line := range strings.Lines(head) {
			name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
			if !ok {
				t.Errorf("%s: %q is no header", e.event, line)
			}
			e.headers[name] = value
		}
		list = append(list, e)
	}
	return list
}

// `journalctl -x` explains each event that mxcert logs, and no other, and says what to do.
func TestEveryEventIsExplained(t *testing.T) {
	explained := map[string]bool{}
	for _, e := range catalog(t) {
		if explained[e.event] = true; journal.IDs()[journal.Event(e.event)] != e.id {
			t.Errorf("%s has the ID %s in the catalogue and %q in the program", e.event, e.id, journal.IDs()[journal.Event(e.event)])
		}
		for _, header := range []string{"Subject", "Defined-By", "Support", "Documentation"} {
			if e.headers[header] == "" {
				t.Errorf("%s has no %s", e.event, header)
			}
		}
		if !strings.Contains(e.text, "\nNext step") {
			t.Errorf("%s: the text does not say what to do", e.event)
		}
		for line := range strings.Lines(e.text) {
			if len(line) > 90 {
				t.Errorf("%s: a line of %d characters: %s", e.event, len(line), line)
			}
		}
	}
	for event := range journal.IDs() {
		if !explained[string(event)] {
			t.Errorf("%s is not explained", event)
		}
	}
}

// The catalogue shows fields that mxcert(7) documents, so that a rename cannot leave a text with holes.
func TestCatalogFields(t *testing.T) {
	page, err := os.ReadFile("mxcert.7.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := strings.ReplaceAll(string(page), `\`, "")
	for _, e := range catalog(t) {
		for _, match := range regexp.MustCompile(`@([A-Z_]+)@`).FindAllStringSubmatch(e.text+e.headers["Subject"], -1) {
			if !strings.Contains(documented, match[1]) {
				t.Errorf("%s shows %s, which mxcert(7) does not document", e.event, match[1])
			}
		}
	}
}

// The commands and pages that the catalogue names exist, and each next step names a command.
func TestCatalogCommands(t *testing.T) {
	pages := made(t)
	for _, e := range catalog(t) {
		for _, page := range strings.Fields(e.headers["Support"] + " " + e.headers["Documentation"]) {
			name := strings.NewReplacer("man:", "", "(", ".", ")", "").Replace(page)
			if _, ok := pages[name]; !ok && name != "mxcert.service.8" {
				t.Errorf("%s: there is no page %s", e.event, page)
			}
		}
		_, next, _ := strings.Cut(e.text, "\nNext step")
		lines := regexp.MustCompile(`(?m)^    (mxcert|journalctl|systemctl) (.*)$`).FindAllStringSubmatch(next, -1)
		if len(lines) == 0 {
			t.Errorf("%s: the next step names no command", e.event)
		}
		for _, line := range lines {
			args := strings.Fields(strings.ReplaceAll(line[2], "@MXCERT_CERTIFICATE@", "mx"))
			if line[1] != "mxcert" {
				if i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "mxcert") }); i < 0 || !exists("../systemd/"+args[i]+".service") {
					t.Errorf("%s: %s is about no unit of mxcert", e.event, line[0])
				}
				continue
			}
			root := commands.Root("")
			cmd, rest, err := root.Find(args)
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err == nil && cmd.Args != nil {
				err = cmd.Args(cmd, cmd.Flags().Args())
			}
			if err != nil || cmd == root {
				t.Errorf("%s: mxcert %s: %v", e.event, line[2], err)
			}
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// systemd's own tool takes the catalogue whole.
func TestCatalogCompiles(t *testing.T) {
	if _, err := exec.LookPath("journalctl"); err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip("no journalctl here")
	}
	root := t.TempDir()
	text, err := os.ReadFile("../systemd/mxcert.catalog")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"usr/lib/systemd/catalog", "var/lib/systemd/catalog"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/systemd/catalog/mxcert.catalog"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	journalctl := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "journalctl", append([]string{"--root=" + root}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("journalctl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if said := journalctl("--update-catalog"); said != "" {
		t.Errorf("journalctl --update-catalog says %s", said)
	}
	var listed []string
	for line := range strings.Lines(journalctl("--list-catalog")) {
		id, subject, _ := strings.Cut(strings.TrimSpace(line), " ")
		if listed = append(listed, id); !strings.HasPrefix(subject, "mxcert: ") {
			t.Errorf("journalctl lists %s", line)
		}
	}
	for event, id := range journal.IDs() {
		if !slices.Contains(listed, id) {
			t.Errorf("journalctl does not list %s", event)
		}
	}
	if len(listed) != len(journal.IDs()) {
		t.Errorf("journalctl lists %d entries of %d", len(listed), len(journal.IDs()))
	}
}
