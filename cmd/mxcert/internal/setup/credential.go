package setup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/configs"
)

// eabFile is the name of the file with the MAC key of an external account binding.
const eabFile = "eab"

// secret asks for a secret whose own file would have this name. A secret that is in the directory of the credentials is offered.
func (c *completion) secret(text, file, help string, optional bool) string {
	there := c.credentials()
	suggestion := ""
	if slices.Contains(there, file) {
		suggestion = "cred:" + file
	} else if free := slices.DeleteFunc(slices.Clone(there), func(name string) bool { return slices.Contains(c.used, name) }); len(free) == 1 {
		suggestion = "cred:" + free[0]
	}
	if len(there) > 1 && suggestion == "" {
		text += ", or cred:NAME for one of " + strings.Join(there, ", ")
	}
	answer := c.question(asked{Question: Question{Text: text, Suggestion: suggestion, Secret: true}, optional: optional, check: c.readable,
		help: help + "\nIt is not shown, and goes into a file of its own. cred:NAME takes the file NAME in " + c.Credentials + ", file:PATH reads one."})
	if name, ok := strings.CutPrefix(answer, "cred:"); ok {
		c.used = append(c.used, name)
	}
	return answer
}

// credentials lists the files in the directory of the credentials.
func (c *completion) credentials() (names []string) {
	entries, err := os.ReadDir(c.Credentials)
	if err != nil || c.Credentials == "" {
		return nil
	}
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") && filepath.Ext(e.Name()) != ".old" && filepath.Ext(e.Name()) != ".new" {
			names = append(names, e.Name())
		}
	}
	return names
}

// readable checks a value that says where a secret is.
func (c *completion) readable(answer string) error {
	_, err := c.value(answer)
	return err
}

// value returns what a value stands for. The configuration need not be there yet, so cred:NAME is looked for beside it first.
func (a *Answers) value(text string) (string, error) {
	if name, ok := strings.CutPrefix(text, "cred:"); ok && a.Credentials != "" && name == filepath.Base(name) {
		content, err := os.ReadFile(filepath.Join(a.Credentials, name))
		if err == nil && len(strings.TrimSpace(string(content))) == 0 {
			return "", fmt.Errorf("%s is empty", filepath.Join(a.Credentials, name))
		}
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return strings.TrimSpace(string(content)), err
		}
	}
	return configs.Secret(text).Read()
}
