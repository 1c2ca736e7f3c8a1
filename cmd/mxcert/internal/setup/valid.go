package setup

import (
	"errors"
	"fmt"
	"strings"

	"mxcert/configs"
)

// The rules for answers are those of the configuration: each answer is put into a small one, which the configuration's own reader checks.

// validDirectory checks the name or URL of a CA.
func validDirectory(directory string) error {
	return valid("acme.directory", directory, "", "mx.example.org")
}

// validEmail checks the address for a CA. An address that no CA takes is refused, too.
func validEmail(directory string) func(string) error {
	return func(email string) error { return valid("acme.email", directory, email, "mx.example.org") }
}

// validNames checks names for a certificate.
func validNames(answer string) error {
	for _, name := range namesIn(answer) {
		if err := valid("certificates", "letsencrypt", "", name); err != nil {
			return err
		}
	}
	if len(namesIn(answer)) == 0 {
		return errors.New("a certificate needs a name")
	}
	return nil
}

// validMailDomains checks mail domains, or none.
func validMailDomains(answer string) error {
	if answer == none {
		return nil
	}
	for _, name := range namesIn(answer) {
		if err := valid("certificates[0].mail_domains", "letsencrypt", "", "mx.example.org", name); err != nil {
			return err
		}
	}
	return nil
}

// namesIn splits a list of names.
func namesIn(answer string) []string {
	return strings.FieldsFunc(answer, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
}

// valid checks a configuration with these values, and returns the first problem of the setting.
func valid(setting, directory, email, name string, mail ...string) error {
	text := fmt.Sprintf("acme: {agree_tos: true, directory: %q, email: %q}\ndns: {provider: exec, env: {EXEC_PATH: /bin/true}}\ncertificates: [{name: mx, domains: [%q], mail_domains: [%s]}]\n", directory, email, name, quotedList(mail))
	config, err := configs.Parse("", []byte(text))
	problems, ok := errors.AsType[*configs.Problems](err)
	if err != nil && !ok {
		return err
	}
	var list []configs.Problem
	if ok {
		list = problems.List
	} else if setting == "acme.email" {
		list = config.Warnings(nil)
	}
	for _, p := range list {
		if strings.HasPrefix(p.Path, setting) {
			return refusal{strings.TrimPrefix(p.Message, p.Path+": "), strings.ReplaceAll(p.Hint, "remove the line", "give none")}
		}
	}
	return nil
}

func quotedList(list []string) string {
	quoted := make([]string, len(list))
	for i, element := range list {
		quoted[i] = fmt.Sprintf("%q", element)
	}
	return strings.Join(quoted, ", ")
}

// refusal says why an answer cannot be used.
type refusal struct{ text, hint string }

func (r refusal) Error() string { return r.text }
func (r refusal) Hint() string  { return r.hint }
