package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/configs"
	"mxcert/hooks/unit"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// initAnswers are what `init` has to know. Flags give them, or questions on a terminal.
type initAnswers struct {
	yes, force, agree bool
	email, directory  string
	domains           []string
	provider          string
	env               map[string]string
	resolvers         []string
	mta               string // exim, files or none
	certificate, key  string
	unit, caFile      string
	eximMacros        bool
	doctor            bool
}

func (a *app) initCommand() *cobra.Command {
	w := &initAnswers{}
	cmd := &cobra.Command{
		Use: "init", Short: "Write a first configuration", Args: cobra.NoArgs,
		Long: `Looks at this host (mail server, its certificate paths, host name, MX records), asks for what it cannot find, and writes a
commented configuration, the secrets beside it, and the rule that lets the service reload the mail server. With --yes
nothing is asked: what is missing is an error that names the flag. An existing configuration is not touched without
--force, and then kept beside the new one. At the end it says what comes next.

For Exim on Debian it shows the macros that make Exim read the certificate, and adds them with --exim-macros.`,
		Example: `  mxcert init
  mxcert init --yes --agree-tos --email postmaster@example.org --dns-provider rfc2136 \
    --dns-env DNSUPDATE_NAMESERVER=192.0.2.53:53 --dns-env DNSUPDATE_TSIG_KEY=mxcert. \
    --dns-env DNSUPDATE_TSIG_SECRET=file:/root/tsig --exim-macros`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return (&initializer{app: a, initAnswers: w, in: bufio.NewReader(cmd.InOrStdin())}).run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&w.yes, "yes", "y", false, "ask nothing")
	flags.BoolVar(&w.force, "force", false, "write over an existing configuration, which is kept as mxcert.yaml.old")
	flags.BoolVar(&w.agree, "agree-tos", false, "you have read the CA's terms of service and agree to them")
	flags.StringVar(&w.email, "email", "", "`ADDRESS` to which the CA may write; may be empty")
	flags.StringVar(&w.directory, "directory", "letsencrypt", "the CA: a name or the `URL` of its directory")
	flags.StringVar(&w.caFile, "ca-file", "", "`FILE` with the roots of a private CA's HTTPS")
	flags.StringSliceVar(&w.domains, "domain", nil, "`NAME` in the certificate, the one in the MX record first (default: what is found)")
	flags.StringVar(&w.provider, "dns-provider", "", "`NAME` of the DNS provider, see mxcert providers")
	flags.StringToStringVar(&w.env, "dns-env", nil, "`VARIABLE=VALUE` of the DNS provider; secrets go into files of their own, file:PATH reads one")
	flags.StringSliceVar(&w.resolvers, "resolver", nil, "`ADDRESS` of a resolver (default: the system's)")
	flags.StringVar(&w.mta, "mta", "", "mail server: `exim|files|none` (default: what is found)")
	flags.StringVar(&w.certificate, "certificate", "", "`PATH` of the certificate")
	flags.StringVar(&w.key, "private-key", "", "`PATH` of its key")
	flags.StringVar(&w.unit, "unit", "", "systemd `UNIT` to reload")
	flags.BoolVar(&w.eximMacros, "exim-macros", false, "add the macros that make Exim on Debian read the certificate, and reload it")
	flags.BoolVar(&w.doctor, "doctor", true, "test everything at the end, as mxcert doctor does")
	return cmd
}

// initializer writes a first configuration.
type initializer struct {
	*app
	*initAnswers
	in   *bufio.Reader
	host hostFindings
}

func (i *initializer) run(ctx context.Context) error {
	if _, err := os.Lstat(i.configFile); err == nil && !i.force {
		return &report.Exit{Code: report.CodeUsage, Err: fmt.Errorf("%s exists: edit it (mxcert check), or write a new one with --force, which keeps the old", i.configFile)}
	}
	if i.env == nil {
		i.env = map[string]string{}
	}
	i.host = lookAtHost(ctx, i.resolvers)
	for _, line := range i.host.told {
		fmt.Fprintln(i.stderr, "found:", line)
	}
	if err := i.complete(); err != nil {
		return err
	}
	secrets, err := i.takeSecrets()
	if err != nil {
		return err
	}
	text := i.text()
	if err := checkText(text); err != nil {
		return err
	}
	if err := i.write(text, secrets); err != nil {
		return err
	}
	if i.mta == "exim" {
		if err := i.exim(ctx); err != nil {
			return err
		}
	}
	return i.next(ctx)
}

// complete asks for what no flag gave.
func (i *initializer) complete() error {
	if len(i.domains) == 0 {
		i.domains = i.host.names
	}
	if i.mta == "" {
		i.mta = i.host.mta
	}
	var problems []error
	ask := func(question, flag, suggestion string, into *string) {
		if *into != "" {
			return
		}
		if !i.yes {
			*into = i.ask(question, suggestion)
		}
		if *into == "" {
			problems = append(problems, report.Usage("%s is missing: give it by %s", question, flag))
		}
	}
	names := strings.Join(i.domains, ", ")
	if !i.yes {
		names = i.ask("names in the certificate, the one in the MX record first", names)
	}
	i.domains = strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' })
	if len(i.domains) == 0 {
		problems = append(problems, report.Usage("no name of this host is known: give it by --domain"))
	}
	if !i.yes && i.email == "" {
		i.email = i.ask("address to which the CA may write (may be empty)", "")
	}
	if !i.agree && !i.yes {
		i.agree = strings.HasPrefix(strings.ToLower(i.ask("have you read the terms of service of "+i.directory+", and do you agree to them? (yes/no)", "")), "y")
	}
	if !i.agree {
		problems = append(problems, report.Usage("no CA issues anything without agreement to its terms: read them, then give --agree-tos"))
	}
	ask("DNS provider (mxcert providers lists them)", "--dns-provider", "rfc2136", &i.provider)
	if i.provider != "" {
		problems = append(problems, i.variables())
	}
	switch i.mta {
	case "exim", "files", "none":
	default:
		ask("mail server: exim, files or none", "--mta", "files", &i.mta)
	}
	i.places()
	if i.mta == "files" {
		ask("path of the certificate", "--certificate", "/var/lib/mxcert-keys/mx.crt", &i.certificate)
		ask("path of its key", "--private-key", "/var/lib/mxcert-keys/mx.key", &i.key)
	}
	return errors.Join(problems...)
}

// places chooses where the certificate goes: where Exim reads already, else a directory that the service may write.
func (i *initializer) places() {
	if i.mta != "exim" {
		return
	}
	if i.unit == "" {
		i.unit = "exim4.service"
	}
	if i.certificate == "" && i.key == "" {
		i.certificate, i.key = i.host.certificate, i.host.key
	}
	if i.certificate == "" {
		i.certificate = "/var/lib/mxcert-keys/mx.crt"
	}
	if i.key == "" {
		i.key = strings.TrimSuffix(i.certificate, filepath.Ext(i.certificate)) + ".key"
	}
}

// variables asks for what the DNS provider needs.
func (i *initializer) variables() error {
	if err := dnsprovider.Known(i.provider); err != nil {
		return &report.Exit{Code: report.CodeUsage, Err: fmt.Errorf("%w; %s", err, report.HintOf(err))}
	}
	description, err := dnsprovider.Describe(i.provider)
	if err != nil {
		return err
	}
	if i.yes {
		return nil
	}
	for _, v := range description.Variables {
		if v.Required && i.env[v.Name] == "" && i.env[v.Name+"_FILE"] == "" {
			if value := i.ask(fmt.Sprintf("%s (%s)", v.Name, v.Meaning), ""); value != "" {
				i.env[v.Name] = value
			}
		}
	}
	return nil
}

// ask asks one question on standard error and reads the answer; an empty one is the suggestion.
func (i *initializer) ask(question, suggestion string) string {
	if suggestion != "" {
		question += " [" + suggestion + "]"
	}
	fmt.Fprintf(i.stderr, "%s: ", question)
	line, _ := i.in.ReadString('\n') // at its end, nothing is the answer
	if line = strings.TrimSpace(line); line != "" {
		return line
	}
	return suggestion
}

// takeSecrets moves what must not stand in the configuration into files: the name in the credentials directory by value.
func (i *initializer) takeSecrets() (map[string]string, error) {
	secrets := map[string]string{}
	for name, value := range i.env {
		path, isFile := strings.CutPrefix(value, "file:")
		switch {
		case isFile && !isPublicVariable(name):
			content, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("--dns-env %s: %w", name, err)
			}
			value = strings.TrimSpace(string(content))
		case isPublicVariable(name), strings.HasPrefix(value, "cred:"), strings.HasPrefix(value, "env:"):
			continue
		}
		file := strings.ToLower(name)
		secrets[file] = value
		i.env[name] = "cred:" + file
	}
	return secrets, nil
}

// isPublicVariable knows the variables that hold no secret, by what the shown configuration leaves readable.
func isPublicVariable(name string) bool {
	for _, word := range []string{"SECRET", "TOKEN", "PASSW", "KEY", "PWD", "CREDENTIAL"} {
		if strings.Contains(name, word) {
			return name == "DNSUPDATE_TSIG_KEY" || name == "RFC2136_TSIG_KEY"
		}
	}
	return true
}

// checkText is what `mxcert check` would say, before anything is written.
func checkText(text string) error {
	file, err := os.CreateTemp("", "mxcert-init-*.yaml")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	config, err := configs.Load(file.Name())
	if err != nil {
		return fmt.Errorf("the answers make no configuration: %w", err)
	}
	return wanted.Check(config)
}

// write writes the configuration and the secrets, and the rule for the service.
func (i *initializer) write(text string, secrets map[string]string) error {
	dir := filepath.Dir(i.configFile)
	credentials := filepath.Join(dir, "credentials")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(credentials, 0o750)); err != nil {
		return err
	}
	gid := serviceGroup()
	problems := []error{os.Chmod(dir, 0o755), giveTo(credentials, gid, 0o750)}
	for name, value := range secrets {
		problems = append(problems, putFile(filepath.Join(credentials, name), value+"\n", gid))
	}
	if _, err := os.Lstat(i.configFile); err == nil {
		problems = append(problems, os.Rename(i.configFile, i.configFile+".old"))
	}
	if err := errors.Join(append(problems, putFile(i.configFile, text, gid))...); err != nil {
		return err
	}
	if err := i.say("written: %s\n", i.configFile); err != nil {
		return err
	}
	if i.configFile != defaultConfig || i.unit == "" {
		return nil
	}
	config, err := configs.Load(i.configFile)
	if err != nil {
		return err
	}
	h, _ := wanted.From(config) // no chain is judged
	return i.installRule(unit.PolkitFile, unit.PolkitRule(unit.Names(h.Units())))
}

// next tests what was written, and says what comes next. A fault is shown and does not undo what was written.
func (i *initializer) next(ctx context.Context) error {
	if i.initAnswers.doctor {
		err := i.app.doctor(ctx, nil)
		if _, found := errors.AsType[*report.Exit](err); err != nil && !found {
			return err
		}
		if err != nil {
			return i.say("next: mend what is marked, try mxcert doctor again, then mxcert renew --now and systemctl enable --now mxcert\n")
		}
	}
	return i.say(`next:
  mxcert renew --now   order, deploy, reload, prove
  systemctl enable --now mxcert
`)
}

// putFile writes a file that the service's group may read.
func putFile(path, text string, gid int) error {
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Close(), giveTo(temporary, gid, 0o640)); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}

func giveTo(path string, gid int, mode fs.FileMode) error {
	if gid >= 0 {
		if err := os.Chown(path, -1, gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, mode)
}

// hostFindings are what is known without asking.
type hostFindings struct {
	names            []string
	mta              string
	certificate, key string
	split            bool // Exim's split configuration
	told             []string
}

func (h *hostFindings) tell(format string, args ...any) {
	h.told = append(h.told, fmt.Sprintf(format, args...))
}

// lookAtHost finds the host's names and its mail server.
func lookAtHost(ctx context.Context, resolvers []string) hostFindings {
	h := hostFindings{mta: ""}
	name := hostName(ctx)
	if strings.Contains(name, ".") {
		h.names = []string{name}
		h.tell("host name %s", name)
		h.mxNames(ctx, name, resolvers)
	}
	h.exim(ctx)
	return h
}

// mxNames adds the MX host names of the host's domains that are this host's: those that have one of its addresses, or
// its name.
func (h *hostFindings) mxNames(ctx context.Context, host string, resolvers []string) {
	resolver := resolve.New(resolvers)
	own := ownAddresses()
	for domain := host; strings.Contains(domain, "."); _, domain, _ = strings.Cut(domain, ".") {
		for _, mx := range mxOf(ctx, resolver, domain) {
			addresses, err := resolver.Addresses(ctx, mx)
			if err != nil || !slices.ContainsFunc(addresses, func(a string) bool { return slices.Contains(own, a) }) {
				continue
			}
			h.tell("MX of %s: %s, an address of this host", domain, mx)
			if !slices.Contains(h.names, mx) {
				h.names = append([]string{mx}, h.names...)
			}
		}
	}
}
