package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"mxcert/acme/resolve"
	"mxcert/hooks/run"
	"mxcert/hooks/unit"
)

// findPatience bounds each question about the host.
const findPatience = 10 * time.Second

// command runs a program of the host without a shell and gives its output; "" where it cannot.
func command(ctx context.Context, name string, args ...string) string {
	output, err := run.Command{Program: name, Args: args, Timeout: findPatience}.Run(ctx)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(output.Stdout)
}

// hostName is the fully qualified name, as the host knows it.
func hostName(ctx context.Context) string {
	if name := command(ctx, "hostname", "--fqdn"); strings.Contains(name, ".") {
		return strings.ToLower(name)
	}
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return strings.ToLower(name)
}

func ownAddresses() (list []string) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		if network, ok := a.(*net.IPNet); ok {
			list = append(list, network.IP.String())
		}
	}
	return list
}

// mxOf lists the mail exchangers of a domain; none where the question fails: that is for doctor to say.
func mxOf(ctx context.Context, resolver *resolve.Resolver, domain string) []string {
	ctx, cancel := context.WithTimeout(ctx, findPatience)
	defer cancel()
	hosts, err := resolver.MX(ctx, domain)
	if err != nil {
		return nil
	}
	return hosts
}

// exim asks Exim what it reads.
func (h *hostFindings) exim(ctx context.Context) {
	program := eximProgram()
	if program == "" {
		h.tell("no Exim on this host")
		return
	}
	h.mta = "exim"
	values := map[string]string{}
	for _, line := range strings.Split(command(ctx, program, "-bP", "tls_certificate", "tls_privatekey", "tls_advertise_hosts"), "\n") {
		name, value, _ := strings.Cut(line, "=")
		values[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	certificate, key := values["tls_certificate"], values["tls_privatekey"]
	h.split = eximSplit()
	switch {
	case certificate == "":
		h.tell("Exim (%s), which offers no certificate of yours yet", program)
	case strings.ContainsAny(certificate+key, "$:") && !plainExim(certificate):
		h.tell("Exim (%s), which reads %s: not a plain path", program, certificate)
	default:
		h.certificate, h.key = eximPath(certificate), eximPath(key)
		h.tell("Exim (%s), which reads %s and %s", program, h.certificate, h.key)
	}
}

func eximProgram() string {
	for _, name := range []string{"exim4", "exim"} {
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/exim/bin"} {
			if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().Perm()&0o111 != 0 {
				return filepath.Join(dir, name)
			}
		}
	}
	return ""
}

// plainExim accepts Debian's setting while no certificate is configured: ${if exists{FILE}{FILE}}.
func plainExim(value string) bool { return eximPath(value) != "" }

// eximPath gives the path of a setting: a plain one, or the one in Debian's ${if exists{…}{…}{…}}; "" for others.
func eximPath(value string) string {
	if rest, ok := strings.CutPrefix(value, "${if exists{"); ok {
		value, _, _ = strings.Cut(rest, "}")
	}
	if !filepath.IsAbs(value) || strings.ContainsAny(value, "$:{} ") {
		return ""
	}
	return value
}

// eximSplit reports whether Debian's Exim uses the split configuration, which ignores exim4.conf.localmacros.
func eximSplit() bool {
	text, err := os.ReadFile("/etc/exim4/update-exim4.conf.conf")
	return err == nil && strings.Contains(string(text), "dc_use_split_config='true'")
}

// eximMacrosFile is where Debian's Exim takes macros from.
func eximMacrosFile(split bool) string {
	if split {
		return "/etc/exim4/conf.d/main/000_mxcert_macros"
	}
	return "/etc/exim4/exim4.conf.localmacros"
}

// exim shows, or makes, the change after which Exim reads the certificate.
func (i *initializer) exim(ctx context.Context) error {
	if _, err := os.Stat("/etc/exim4/update-exim4.conf.conf"); err != nil {
		return i.say("Exim must read the certificate: set tls_certificate = %s and tls_privatekey = %s\n", i.certificate, i.key)
	}
	file := eximMacrosFile(i.host.split)
	old, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	lines := missingMacros(string(old), i.certificate, i.key)
	readers := i.readers()
	if len(lines) == 0 && readers == "" {
		return nil
	}
	if err := i.say("%s", macrosDiff(file, lines)); err != nil {
		return err
	}
	apply := i.eximMacros || !i.yes && strings.HasPrefix(strings.ToLower(i.ask("add these lines, and reload Exim? (yes/no)", "")), "y")
	if !apply {
		return i.say("not applied; by hand: add them, then: %supdate-exim4.conf && systemctl restart exim4\n", readers)
	}
	return i.applyMacros(ctx, file, string(old), lines)
}

// readers is the command by which Exim's user gets to read keys of the service; "" where it needs none.
func (i *initializer) readers() string {
	if !strings.HasPrefix(i.key, "/var/lib/mxcert-keys/") {
		return ""
	}
	group, err := user.LookupGroup("mxcert-keys")
	exim, eximErr := user.Lookup("Debian-exim")
	if err != nil || eximErr != nil {
		return ""
	}
	if groups, err := exim.GroupIds(); err == nil && slices.Contains(groups, group.Gid) {
		return ""
	}
	return "usermod -aG mxcert-keys Debian-exim && "
}

func (i *initializer) applyMacros(ctx context.Context, file, old string, lines []string) error {
	if i.readers() != "" {
		if out, err := hostProgram(ctx, "usermod", "-aG", "mxcert-keys", "Debian-exim"); err != nil {
			return fmt.Errorf("usermod -aG mxcert-keys Debian-exim: %w: %s", err, out)
		}
	}
	text := old
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if len(lines) > 0 {
		text += strings.Join(lines, "\n") + "\n"
	}
	if err := writePublic(file, text); err != nil {
		return err
	}
	for _, step := range [][]string{{"update-exim4.conf"}, {eximProgram(), "-bV"}, {"systemctl", "restart", "exim4.service"}} {
		out, err := hostProgram(ctx, step...)
		if err != nil {
			back := writePublic(file, old)
			return errors.Join(fmt.Errorf("%s: %w: %.300s; the macros are taken out again, Exim was not restarted", strings.Join(step, " "), err, out), back)
		}
	}
	return i.say("added, and Exim restarted: it reads %s and %s\n", i.certificate, i.key)
}

// hostProgram runs a program of the host, which sees nothing of mxcert's environment.
func hostProgram(ctx context.Context, arguments ...string) ([]byte, error) {
	const patience = 5 * time.Minute // systemctl waits for Exim to stop
	output, err := run.Command{Program: arguments[0], Args: arguments[1:], Timeout: patience, Join: true}.Run(ctx)
	return []byte(output.Stdout), err
}

// missingMacros lists the lines that a macro file lacks.
func missingMacros(text, certificate, key string) (lines []string) {
	for _, macro := range [][2]string{{"MAIN_TLS_ENABLE", "yes"}, {"MAIN_TLS_CERTIFICATE", certificate}, {"MAIN_TLS_PRIVATEKEY", key}} {
		standard := map[string]string{"MAIN_TLS_CERTIFICATE": "/etc/exim4/exim.crt", "MAIN_TLS_PRIVATEKEY": "/etc/exim4/exim.key"}[macro[0]]
		has := false
		for _, line := range strings.Split(text, "\n") {
			name, value, _ := strings.Cut(line, "=")
			if strings.TrimSpace(name) == macro[0] {
				has = strings.TrimSpace(value) == macro[1]
			}
		}
		if !has && macro[1] != standard {
			lines = append(lines, macro[0]+" = "+macro[1])
		}
	}
	return lines
}

func macrosDiff(file string, lines []string) string {
	var diff strings.Builder
	fmt.Fprintf(&diff, "--- %s\n+++ %s\n", file, file)
	for _, line := range lines {
		fmt.Fprintf(&diff, "+%s\n", line)
	}
	return diff.String()
}

func writePublic(path, text string) error {
	temporary := path + ".mxcert-new"
	if err := os.WriteFile(temporary, []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.Chmod(temporary, 0o644); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}

// serviceGroup is the group of the service, -1 where there is none.
func serviceGroup() int {
	g, err := user.LookupGroup(unit.ServiceUser)
	if err != nil {
		return -1
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	return gid
}
