package wanted

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/finding"
	"mxcert/configs"
)

// Check finds faults that the configuration alone does not show: files of root certificates that cannot be read, DNS providers that this
// build lacks, and variables that a provider does not have. The error is a *configs.Problems, with the place of each fault. Files and secrets of a
// fleet are the matter of [CheckFleet]: a host renews and serves without them.
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
	for _, zone := range zones(config) {
		if setting, err := checkAccount(zone.Provider, zone.Env); err != nil {
			problem := config.At(zone.Path + "." + setting)
			problem.Message, problem.Hint = zone.Path+": "+err.Error(), hintOf(err)
			problems.List = append(problems.List, problem)
		}
	}
	if problem, bad := checkLogList(config); bad {
		problems.List = append(problems.List, problem)
	}
	problems.List = append(problems.List, checkMembership(config)...)
	if len(problems.List) > 0 {
		return problems
	}
	return nil
}

func checkProvider(config *configs.Config, c configs.Certificate, i int) (problem configs.Problem, bad bool) {
	setting, err := checkAccount(c.DNS.Provider, c.DNS.Env)
	if err == nil || c.DNS.Provider == "" && len(c.DNS.Zones) > 0 {
		return problem, false
	}
	setting = "dns." + setting
	problem = config.At(fmt.Sprintf("certificates[%d].%s", i, setting))
	if c.DNS.Provider == config.DNS.Provider && (setting == "dns.provider" || maps.Equal(c.DNS.Env, config.DNS.Env)) {
		problem = config.At(setting) // in the section above the certificates
	}
	problem.Message, problem.Hint = err.Error(), hintOf(err)
	return problem, true
}

// checkAccount finds out whether the provider exists and has the variables. setting is the one that is wrong.
func checkAccount(provider string, env map[string]configs.Secret) (setting string, err error) {
	if err := dnsprovider.Known(provider); err != nil {
		return "provider", err
	}
	return "env", dnsprovider.CheckVariables(provider, slices.Sorted(maps.Keys(env)))
}

// zones lists the zones of all sections, each once.
func zones(config *configs.Config) []configs.Zone {
	list := slices.Clone(config.DNS.Zones)
	for _, c := range config.Certificates {
		for _, zone := range c.DNS.Zones {
			if !slices.ContainsFunc(list, func(z configs.Zone) bool { return z.Path == zone.Path }) {
				list = append(list, zone)
			}
		}
	}
	return list
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
	_, textfile := checkTextfile(config)
	return slices.Concat(config.Warnings(dnsprovider.WarnSecret), warnWebConfig(config), textfile, clientProblems(config, true))
}

// Unreadable is a secret that this process cannot read.
type Unreadable struct {
	configs.Problem
	Credential string // NAME, if the configuration refers to it as cred:NAME; otherwise ""
}

// UnreadableSecrets lists secrets that cannot be read. They are not faults of the configuration: you may check it before its
// secrets are in place, or as a user who may not read them, or systemd may hand them to the service alone.
func UnreadableSecrets(config *configs.Config) []Unreadable {
	var list []Unreadable
	try := func(path string, secret configs.Secret) {
		if _, err := secret.Read(); err != nil {
			p := Unreadable{Problem: config.At(path)}
			p.Message, p.Hint = fmt.Sprintf("%s: %v", path, err), hintOf(err)
			if name, found := strings.CutPrefix(string(secret), "cred:"); found {
				p.Credential = name
			}
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
	for _, zone := range zones(config) {
		for _, name := range slices.Sorted(maps.Keys(zone.Env)) {
			try(zone.Path+".env."+name, zone.Env[name])
		}
	}
	for i, c := range config.Certificates {
		list := publisherSecrets(c.DANE.Publisher)
		for _, setting := range slices.Sorted(maps.Keys(list)) {
			try(fmt.Sprintf("certificates[%d].dane.publisher.%s", i, setting), list[setting])
		}
	}
	tokens := ctTokens(config.CT)
	for _, path := range slices.Sorted(maps.Keys(tokens)) {
		try(path, tokens[path])
	}
	for _, s := range channelSecrets(config.Notify) {
		try(s.path, s.secret)
	}
	for i, binding := range config.ACME.EAB {
		path := "acme.eab.hmac_key"
		if len(config.ACME.EAB) > 1 {
			path = fmt.Sprintf("acme.eab[%d].hmac_key", i)
		}
		try(path, binding.HMACKey)
	}
	if config.Fleet.On() {
		try("fleet.identity", config.Fleet.Identity)
		if key := config.Fleet.Etcd.PrivateKey; key != "" && !filepath.IsAbs(key) {
			try("fleet.etcd.private_key", configs.Secret(key))
		}
	}
	return list
}

// MisspeltVariables lists variables whose names resemble one that their DNS provider has. They are not faults: the libraries of
// some providers read variables that lego does not list.
func MisspeltVariables(config *configs.Config) []configs.Problem {
	var list []configs.Problem
	look := func(path, provider string, env map[string]configs.Secret) {
		wrong := dnsprovider.Misspelt(provider, slices.Collect(maps.Keys(env)))
		for _, name := range slices.Sorted(maps.Keys(wrong)) {
			p := config.At(path + ".env." + name)
			p.Message = fmt.Sprintf("%s.env.%s: provider %s has no such variable; did you mean %s?", path, name, provider, wrong[name])
			p.Hint = "`mxcert providers " + provider + "` lists them"
			list = append(list, p)
		}
	}
	look("dns", config.DNS.Provider, config.DNS.Env)
	for i, c := range config.Certificates {
		if c.DNS.Provider != config.DNS.Provider || !maps.Equal(c.DNS.Env, config.DNS.Env) {
			look(fmt.Sprintf("certificates[%d].dns", i), c.DNS.Provider, c.DNS.Env)
		}
	}
	for _, zone := range zones(config) {
		look(zone.Path, zone.Provider, zone.Env)
	}
	return list
}

// Inspect returns what doctor says about the files: faults and suspicious settings, and secrets that cannot be read. The files
// must have been loaded without a fault.
func Inspect(config *configs.Config) (configuration, secrets []finding.Finding) {
	for _, err := range []error{Check(config), CheckFleet(config)} {
		if problems, ok := errors.AsType[*configs.Problems](err); ok {
			configuration = append(configuration, Findings(problems.List, finding.Error)...)
		}
	}
	configuration = append(configuration, Findings(CheckFiles(config), finding.Warning)...)
	configuration = append(configuration, Findings(append(Warnings(config), MisspeltVariables(config)...), finding.Warning)...)
	for _, secret := range UnreadableSecrets(config) {
		secrets = append(secrets, Findings([]configs.Problem{secret.Problem}, finding.Error)...)
	}
	return configuration, secrets
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
