package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"time"
)

//go:embed examples
var examples embed.FS //nolint:gochecknoglobals // embedded files are nothing else

// setting is a node of the configuration's JSON schema.
type setting struct {
	Type        any             `json:"type"`
	Description string          `json:"description"`
	Default     any             `json:"default"`
	Enum        []string        `json:"enum"`
	Properties  orderedSettings `json:"properties"`
	Items       *setting        `json:"items"`
	AnyOf       []*setting      `json:"anyOf"`
	Additional  json.RawMessage `json:"additionalProperties"`
}

// orderedSettings keeps the order of the schema, which is the order of the documentation.
type orderedSettings []struct {
	name string
	setting
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *orderedSettings) UnmarshalJSON(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if _, err := decoder.Token(); err != nil { // the opening brace
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		var s setting
		if err := decoder.Decode(&s); err != nil {
			return err
		}
		*o = append(*o, struct {
			name string
			setting
		}{name.(string), s})
	}
	return nil
}

// settingsPage writes mxcert.yaml(5) from the schema. The texts in the schema are the comments of package configs.
func settingsPage(e edition, schema []byte) (string, error) {
	var root setting
	if err := json.Unmarshal(schema, &root); err != nil {
		return "", err
	}
	var page strings.Builder
	fmt.Fprintf(&page, ".TH MXCERT.YAML 5 %q %q \"File formats\"\n", e.date.Format(time.DateOnly), e.source())
	page.WriteString(`.SH NAME
mxcert.yaml \- configuration of mxcert
.SH SYNOPSIS
.I /etc/mxcert/mxcert.yaml
.br
.I /etc/mxcert/conf.d/*.yaml
.SH DESCRIPTION
Strict YAML: an unknown key, a value of another kind or a key given twice is an error with line and column.
Files in conf.d can add certificates.
.B mxcert check
checks the files,
.B mxcert config example
prints an annotated example, and
.B mxcert config show
what is in force with all defaults.
.PP
Secrets are references:
.B cred:NAME
is the file NAME in the directory that systemd gives the service, else in
.IR /etc/mxcert/credentials ;
.B file:/PATH
is the content of a file and
.B env:NAME
a variable.
Durations are written as 90s, 5m, 1h30m or 2d.
.SH SETTINGS
`)
	root.write(&page, "")
	if err := writeExamples(&page); err != nil {
		return "", err
	}
	page.WriteString(".SH SEE ALSO\n.BR mxcert (1),\n.BR mxcert (7),\n.BR mxcert.service (8)\n")
	return page.String(), nil
}

// alike returns the names of the settings if there are several and they are sections with the same settings. The page has these once.
func (o orderedSettings) alike() (names []string) {
	for _, p := range o {
		if p.Properties == nil || p.Description != "" || !reflect.DeepEqual(p.Properties, o[0].Properties) {
			return nil
		}
		names = append(names, p.name)
	}
	if len(names) < 2 {
		return nil
	}
	return names
}

func (s *setting) write(page *strings.Builder, prefix string) {
	if names := s.Properties.alike(); names != nil {
		list := strings.Join(names, ", ")
		fmt.Fprintf(page, ".TP\n.B %s\nSections with the same settings, one in each element of the list. KIND below stands for one of these words.\n", roff(prefix+list))
		s.Properties[0].write(page, prefix+"KIND.")
		return
	}
	for _, p := range s.Properties {
		path := prefix + p.name
		inner := p.setting
		suffix := "."
		for inner.Properties == nil {
			switch {
			case inner.Items != nil:
				inner, suffix = *inner.Items, "[]."
				continue
			case len(inner.AnyOf) > 0:
				inner = *inner.AnyOf[0]
				continue
			case inner.each() != nil:
				inner, suffix = *inner.each(), ".NAME."
				continue
			}
			break
		}
		fmt.Fprintf(page, ".TP\n.B %s\n%s\n", roff(path), roff(p.describe()))
		inner.write(page, path+suffix)
	}
}

// each returns what belongs to every key of a section with free keys; nil if that is one value.
func (s *setting) each() *setting {
	var each setting
	if json.Unmarshal(s.Additional, &each) != nil || each.Properties == nil {
		return nil
	}
	return &each
}

// writeExamples writes the files of the folder examples. The comment in their first line becomes the text above.
func writeExamples(page *strings.Builder) error {
	files, err := fs.Glob(examples, "examples/*.yaml")
	if err != nil {
		return err
	}
	page.WriteString(".SH EXAMPLES\n")
	for i, name := range files {
		text, err := examples.ReadFile(name)
		if err != nil {
			return err
		}
		title, body, _ := strings.Cut(string(text), "\n")
		if i > 0 {
			page.WriteString(".PP\n")
		}
		fmt.Fprintf(page, "%s\n.PP\n.EX\n", roff(strings.TrimPrefix(title, "# ")))
		for line := range strings.Lines(body) {
			page.WriteString(roff(line))
		}
		page.WriteString(".EE\n")
	}
	return nil
}

// describe returns the text, the allowed values and the default.
func (s *setting) describe() string {
	text := s.Description
	if text == "" {
		text = "A section."
	}
	var values []string
	for _, v := range s.Enum {
		if v != "" {
			values = append(values, v)
		}
	}
	if len(values) > 0 {
		text += " One of: " + strings.Join(values, ", ") + "."
	}
	if s.Default != nil {
		text += fmt.Sprintf(" Default: %v.", s.Default)
	}
	return text
}

// roff escapes characters that troff would take as a command.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
