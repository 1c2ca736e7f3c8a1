package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mxcert/acme/finding"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// usageErrors makes wrong arguments and unknown commands exit with code 2.
func usageErrors(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		check = cobra.ArbitraryArgs
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err == nil {
			return nil
		}
		if cmd.HasAvailableSubCommands() && len(args) > 0 {
			err = unknownCommand(cmd, args[0])
		}
		if text := err.Error(); strings.HasPrefix(text, "accepts ") {
			err = fmt.Errorf("wrong number of arguments; usage: %s", cmd.UseLine())
		}
		if cmd.Name() == "help" {
			cmd = cmd.Root()
		}
		return report.Usage("%v\nsee: %s --help", err, cmd.CommandPath())
	}
	for _, sub := range cmd.Commands() {
		usageErrors(sub)
	}
}

// unknownCommand returns an error with the unknown word and the nearest command, both as a person types them after mxcert.
func unknownCommand(parent *cobra.Command, word string) error {
	_, path, _ := strings.Cut(parent.CommandPath()+" ", " ")
	text := fmt.Sprintf("unknown command %q", path+word)
	parent.SuggestionsMinimumDistance = 2 // cobra sets its default only when it makes the suggestions
	if near := parent.SuggestionsFor(word); len(near) > 0 {
		text += fmt.Sprintf("; did you mean %q?", path+near[0])
	}
	return errors.New(text)
}

const completionHelp = `Prints the script that lets a shell complete the commands of mxcert: commands, flags, and names of certificates, DNS providers
and other clients. The packages of mxcert install the scripts. To try one in the shell at hand:

  . <(mxcert completion bash)`

// cobraCommands changes the two commands that cobra adds: there, too, wrong words become a usage error.
func (a *app) cobraCommands(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.Short, cmd.Long = "Print the completion script for a shell", completionHelp
			for _, shell := range cmd.Commands() {
				shell.PreRunE = func(cmd *cobra.Command, _ []string) error { return a.refuseJSON(cmd, "a script for a shell") }
			}
			cmd.RunE = func(*cobra.Command, []string) error {
				return report.Usage("completion bash, completion zsh, completion fish or completion powershell?")
			}
		case "help":
			cmd.Args = func(_ *cobra.Command, words []string) error {
				if parent, rest, _ := root.Find(words); len(rest) > 0 {
					return unknownCommand(parent, rest[0])
				}
				return nil
			}
		}
	}
}

// flagError is a usage error about a flag. It names the nearest flag if the command does not have the given one.
func flagError(cmd *cobra.Command, err error) error {
	text := ""
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		if near := nearestFlag(cmd, unknown.GetSpecifiedName()); near != "" {
			text = fmt.Sprintf("; did you mean --%s?", near)
		}
	}
	return &report.Exit{Code: report.CodeUsage, Err: fmt.Errorf("%w%s\nsee: %s --help", err, text, cmd.CommandPath())}
}

// longestFlag limits the words that are compared with flags, in bytes, because that takes quadratic time.
const longestFlag = 40

// nearestFlag returns the flag of a command that is most like a word, or "" if none is close. One letter in three may differ, but no more than
// two.
func nearestFlag(cmd *cobra.Command, word string) (nearest string) {
	best := min(3, 1+max(1, len(word)/3))
	if len(word) > longestFlag {
		return ""
	}
	consider := func(f *pflag.Flag) {
		if d := finding.Distance(word, f.Name); !f.Hidden && d < best {
			best, nearest = d, f.Name
		}
	}
	cmd.Flags().VisitAll(consider)
	cmd.InheritedFlags().VisitAll(consider)
	return nearest
}

// refuseJSON refuses --json for a command whose result is a document of another kind.
func (a *app) refuseJSON(cmd *cobra.Command, what string) error {
	if !a.json {
		return nil
	}
	return report.Usage("%s prints %s, and has no --json", cmd.CommandPath(), what)
}

// proposeSudo shows the command line with sudo to a person who may not do what it needs. It leaves out lines that a shell would read in
// another way.
func (a *app) proposeSudo(err error, args []string) {
	line := strings.Join(append([]string{"sudo", "mxcert"}, args...), " ")
	if os.Geteuid() == 0 || report.CodeOf(err) != report.CodePermission || !isPlainLine(line) {
		return
	}
	fmt.Fprint(a.stderr, "  ")
	a.paint(a.stderr, "→", cyan)
	fmt.Fprintf(a.stderr, " %s\n", line)
}

// isPlainLine reports whether no character of a line has a meaning for a shell.
func isPlainLine(line string) bool {
	return !strings.ContainsFunc(line, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" -_./:=@,+", r))
	})
}

// oneName returns the name that a command got, or that of the only certificate of the configuration.
func oneName(h *wanted.Host, names []string) (string, error) {
	switch {
	case len(names) > 0:
		return names[0], nil
	case len(h.Certificates) == 1:
		return h.Certificates[0].Name, nil
	}
	known := make([]string, len(h.Certificates))
	for i, c := range h.Certificates {
		known[i] = c.Name
	}
	return "", report.Usage("which certificate? %s", strings.Join(known, ", "))
}
