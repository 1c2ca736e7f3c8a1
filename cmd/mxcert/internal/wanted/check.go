package wanted

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/finding"
	"mxcert/configs"
)

// Check finds faults that the configuration alone does not show: files of root certificates that cannot be read, DNS providers that this
// build lacks, and variables that a provider does not have. The error is a *configs.Problems, with the place of each fault.
func Check(config *configs.Config) error {
	problems := &configs.Problems{}
	for _, file := range [][2]string{{"acme.ca_file", config.ACME.CAFile}, {"acme.roots_file", config.ACME.RootsFile}} {
		if _, _, err := readRoots(file[0], file[1]); err != nil {
			problem := config.At(file[0])
			problem.Message, problem.Hint = err.Error(), "name a readable PEM file, or leave the setting out"
			problems.List = append(problems.List, problem)
		}
	}
	checked := map[string]bool{}
	for i, c := range config.Certificates {
		shared := c.DNS.Provider == config.DNS.Provider && maps.Equal(c.DNS.Env, config.DNS.Env)
		if shared && checked["dns"] {
			continue // checked already with the first certificate
		}
		checked["dns"] = checked["dns"] || shared
		problem, bad := checkProvider(config, c, i)
		said := slices.ContainsFunc(problems.List, func(p configs.Problem) bool { return p.Path == problem.Path && p.Message == problem.Message })
		if bad && !said {
			problems.List = append(problems.List, problem)
		}
	}
	if len(problems.List) > 0 {
		return problems
	}
	return nil
}

func checkProvider(config *configs.Config, c configs.Certificate, i int) (problem configs.Problem, bad bool) {
	err, setting := dnsprovider.Known(c.DNS.Provider), "dns.provider"
	if err == nil {
		err, setting = dnsprovider.CheckVariables(c.DNS.Provider, slices.Sorted(maps.Keys(c.DNS.Env))), "dns.env"
	}
	if err == nil {
		return problem, false
	}
	problem = config.At(fmt.Sprintf("certificates[%d].%s", i, setting))
	if c.DNS.Provider == config.DNS.Provider && (setting == "dns.provider" || maps.Equal(c.DNS.Env, config.DNS.Env)) {
		problem = config.At(setting) // in the section above the certificates
	}
	problem.Message, problem.Hint = err.Error(), hintOf(err)
	return problem, true
}

// hintOf returns the next step that an error suggests; "" if it suggests none.
func hintOf(err error) string {
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return h.Hint()
	}
	return ""
}

// Warnings returns settings that are allowed but suspicious, in the order of the files.
func Warnings(config *configs.Config) []configs.Problem {
	return config.Warnings(dnsprovider.WarnSecret)
}

// UnreadableSecrets lists secrets that cannot be read. They are not faults of the configuration: you may check it before its
// secrets are in place, or as a user who may not read them.
func UnreadableSecrets(config *configs.Config) []configs.Problem {
	var list []configs.Problem
	try := func(path string, secret configs.Secret) {
		if _, err := secret.Read(); err != nil {
			p := config.At(path)
			p.Message, p.Hint = fmt.Sprintf("%s: %v", path, err), hintOf(err)
			list = append(list, p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(config.DNS.Env)) {
		try("dns.env."+name, config.DNS.Env[name])
	}
	for i, c := range config.Certificates {
		if maps.Equal(c.DNS.Env, config.DNS.Env) {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(c.DNS.Env)) {
			try(fmt.Sprintf("certificates[%d].dns.env.%s", i, name), c.DNS.Env[name])
		}
	}
	for i, binding := range config.ACME.EAB {
		path := "acme.eab.hmac_key"
		if len(config.ACME.EAB) > 1 {
			path = fmt.Sprintf("acme.eab[%d].hmac_key", i)
		}
		try(path, binding.HMACKey)
	}
	return list
}

// MisspeltVariables lists variables whose names resemble one that their DNS provider has. They are not faults: the libraries of
// some providers read variables that lego does not list.
func MisspeltVariables(config *configs.Config) []configs.Problem {
	var list []configs.Problem
	look := func(path string, settings configs.DNS) {
		wrong := dnsprovider.Misspelt(settings.Provider, slices.Collect(maps.Keys(settings.Env)))
		for _, name := range slices.Sorted(maps.Keys(wrong)) {
			p := config.At(path + ".env." + name)
			p.Message = fmt.Sprintf("%s.env.%s: provider %s has no such variable; did you mean %s?", path, name, settings.Provider, wrong[name])
			p.Hint = "`mxcert providers " + settings.Provider + "` lists them"
			list = append(list, p)
		}
	}
	look("dns", config.DNS)
	for i, c := range config.Certificates {
		if c.DNS.Provider != config.DNS.Provider || !maps.Equal(c.DNS.Env, config.DNS.Env) {
			look(fmt.Sprintf("certificates[%d].dns", i), c.DNS)
		}
	}
	return list
}

// Inspect returns what doctor says about the files: faults and suspicious settings, and secrets that cannot be read. The files
// must have been loaded without a fault.
func Inspect(config *configs.Config) (configuration, secrets []finding.Finding) {
	if problems, ok := errors.AsType[*configs.Problems](Check(config)); ok {
		configuration = Findings(problems.List, finding.Error)
	}
	configuration = append(configuration, Findings(append(Warnings(config), MisspeltVariables(config)...), finding.Warning)...)
	return configuration, Findings(UnreadableSecrets(config), finding.Error)
}

// Findings turns problems of a configuration into findings, each with its place in the file.
func Findings(problems []configs.Problem, severity finding.Severity) []finding.Finding {
	var list []finding.Finding
	for _, p := range problems {
		text := fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
		if p.Line == 0 {
			text = p.File + ": " + p.Message
		}
		list = append(list, finding.New("", severity, "%s", text).Next(p.Hint))
	}
	return list
}
