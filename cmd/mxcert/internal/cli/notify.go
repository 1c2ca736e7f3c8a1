package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert/internal/daemon"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// notifyTime limits a test of all channels; each has a limit of its own, and they are tested at once.
const notifyTime = 2 * time.Minute

// notifyReport is the document of `notify test --json`. Scripts depend on its fields.
type notifyReport struct {
	OK       bool          `json:"ok"`
	Channels []daemon.Sent `json:"channels"`
}

func (a *app) notifyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "notify", Short: "Test how mxcert tells people", Args: cobra.NoArgs}
	cmd.AddCommand(&cobra.Command{
		Use: "test [CHANNEL…]", Short: "Send a test message through each channel, or through those named", Args: cobra.ArbitraryArgs,
		Long: `Sends a test message through each channel of the section notify, or through those named, and says what became of each. A dead man's
switch gets a request that all is well. mxcert-notify(7) has an example for each kind of channel.

If the daemon runs, it sends the messages, with its secrets and its rights, as it would send others. Run it as root, or as the service's user.

Exit code 1 if a message was not sent, 4 if others were, 75 if it may be sent later, 77 if a secret cannot be read.`,
		RunE: func(cmd *cobra.Command, names []string) error { return a.notifyTest(cmd.Context(), names) },
	})
	return cmd
}

func (a *app) notifyTest(ctx context.Context, names []string) error {
	ctx, cancel := a.within(ctx, notifyTime)
	defer cancel()
	config, err := a.load()
	if err != nil {
		return err
	}
	host, err := a.translate(ctx, config, "notify test")
	if err != nil {
		return err
	}
	channels, err := daemon.ChooseChannels(host, names)
	if err != nil {
		return &report.Exit{Code: report.CodeUsage, Err: err}
	}
	if len(channels) == 0 {
		return report.Usage("the configuration has no channel to test: its section notify is empty; mxcert-notify(7) has examples")
	}
	sent, err := a.sendTest(ctx, host, channels, names)
	if err != nil {
		return err
	}
	r := notifyReport{OK: true, Channels: sent}
	codes := make([]report.Code, len(sent))
	for i, s := range sent {
		r.OK, codes[i] = r.OK && s.OK, s.Code
	}
	return a.finish(answer{document: r, code: report.SumCodes(codes), print: func(out sheet) { printSent(out, host, sent) }})
}

// sendTest has the daemon send the messages, or sends them itself as the owner of the state.
func (a *app) sendTest(ctx context.Context, host *wanted.Host, channels []wanted.Channel, names []string) ([]daemon.Sent, error) {
	store, err := view(host.State)
	if err != nil {
		return nil, err
	}
	sent, err := daemon.AskTest(ctx, store, a.version, host.Fingerprint, names)
	if errors.Is(err, daemon.ErrNone) {
		return daemon.SendTest(ctx, channels), nil
	}
	return sent, err
}

// printSent prints one line for each channel. Below a message that was not sent it says why.
func printSent(out sheet, host *wanted.Host, sent []daemon.Sent) {
	wide := len("CHANNEL")
	for _, s := range sent {
		wide = max(wide, utf8.RuneCountInString(s.Name))
	}
	line := func(name, state, colour, took, where string) {
		fmt.Fprintf(out, "%-*s  ", wide, name)
		if colour == "" {
			fmt.Fprint(out, state)
		} else {
			out.paint(state, colour)
		}
		fmt.Fprintf(out, "%s  %8s  %s\n", strings.Repeat(" ", len("not sent")-len(state)), took, where)
	}
	line("CHANNEL", "RESULT", "", "TOOK", "WHERE")
	for _, s := range sent {
		took := (time.Duration(s.Took) * time.Millisecond).Round(10 * time.Millisecond).String()
		if s.OK {
			line(s.Name, "sent", green, took, host.Where(s.Name))
			continue
		}
		line(s.Name, "not sent", red, took, host.Where(s.Name))
		fmt.Fprintf(out, "  %s\n", s.Error)
		if s.Hint != "" {
			fmt.Fprint(out, "  ")
			out.paint("→", cyan)
			fmt.Fprintf(out, " %s\n", s.Hint)
		}
	}
}
