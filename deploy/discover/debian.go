package discover

import (
	"context"
	"regexp"
	"strings"

	"mxcert/deploy"
)

// EximSetup says where the Exim on this host gets its certificate from, for somebody who is about to configure it.
type EximSetup struct {
	Program string // path of the program
	User    string // the user who opens the files
	Setting string // tls_certificate as written: foreign text; "" if Exim has no certificate of the operator's
	// Pair holds the paths in the settings. It is empty unless each setting names one plain path. A file with both has the same path twice.
	Pair deploy.Pair
	// Pairs holds all the paths in the settings, one pair for each certificate. It is empty if a setting is not a list of plain paths.
	Pairs      []deploy.Pair
	ConfigFile string // path of the configuration that Exim reads; "" if it does not say
	// Macros is the file for macros of Debian's configuration, or "" if update-exim4.conf does not generate the configuration.
	Macros string
}

// Exim asks the Exim on this host for its setup. The error is ErrAbsent, or an *Error that contains the program's answer.
func Exim(ctx context.Context) (EximSetup, error) {
	e, user, err := askExim(ctx)
	if err != nil {
		return EximSetup{}, err
	}
	e.askFile(ctx)
	s := EximSetup{Program: e.program, User: user, Setting: e.certificate, ConfigFile: e.configFile}
	certificates, keys := plainPaths(e.certificate), plainPaths(e.key)
	if pairs := pairUp(certificates, keys); e.key == "" || len(keys) == len(certificates) {
		if s.Pairs = pairs; len(pairs) == 1 {
			s.Pair = pairs[0]
		}
	}
	if e.configFile == debianGenerated {
		s.Macros = macrosFile(debianSettings)
	}
	return s, nil
}

// ifExists matches how older configurations of Debian name a file that may not exist yet: ${if exists{FILE}{FILE}}.
var ifExists = regexp.MustCompile(`^\$\{if exists\{([^{}$:\s]+)\}`) //nolint:gochecknoglobals // a constant

// plainPaths returns the paths in a setting if it consists of plain paths. It returns nil if Exim expands the setting at each connection.
func plainPaths(setting string) []string {
	if m := ifExists.FindStringSubmatch(setting); m != nil {
		setting = m[1]
	}
	list := eximList(setting)
	for _, path := range list {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "${} ") {
			return nil
		}
	}
	return list
}
