package main

import (
	"embed"
	"fmt"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"

	"mxcert/cmd/mxcert/commands"
	"mxcert/configs"
)

//go:embed *.7.md
var written embed.FS //nolint:gochecknoglobals // embedded files are nothing else

// edition is what all pages have in common.
type edition struct {
	version string
	date    time.Time
}

// source returns the name of the program for the foot of a page.
func (e edition) source() string { return "mxcert " + e.version }

// pages returns all pages, by file name.
func pages(e edition) (map[string]string, error) {
	all := map[string]string{}
	if err := commandPages(all, commands.Root(e.version), e); err != nil {
		return nil, err
	}
	settings, err := settingsPage(e, configs.Schema())
	if err != nil {
		return nil, err
	}
	all["mxcert.yaml.5"] = settings
	return all, writtenPages(all, e)
}

// writtenPages adds the pages that are written in Markdown.
func writtenPages(all map[string]string, e edition) error {
	files, err := written.ReadDir(".")
	if err != nil {
		return err
	}
	for _, f := range files {
		text, err := written.ReadFile(f.Name())
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(f.Name(), ".md")
		title := fmt.Sprintf("%% %q %q %q %q %q\n", strings.ToUpper(strings.TrimSuffix(name, ".7")), "7", e.date.Format(time.DateOnly), e.source(), "mxcert manual")
		all[name] = hyphens(string(md2man.Render([]byte(title + string(text)))))
	}
	return nil
}

// hyphens keeps troff from turning each - into a typographic hyphen, which would not work if copied into a shell.
func hyphens(page string) string {
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, ".TH ") {
			lines[i] = strings.ReplaceAll(strings.ReplaceAll(line, `\-`, "-"), "-", `\-`)
		}
	}
	return strings.Join(lines, "\n")
}
