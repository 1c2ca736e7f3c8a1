package setup

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/hooks/run"
)

// command runs a program of the host and returns its output; "" if the program fails.
func command(ctx context.Context, name string, args ...string) string {
	output, err := run.Command{Program: name, Args: args, Timeout: patience}.Run(ctx)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(output.Stdout)
}

// hostProgram runs a program that changes the host and returns all its output.
func hostProgram(ctx context.Context, arguments ...string) (string, error) {
	const patience = 5 * time.Minute // as much time as systemd allows Exim's unit
	output, err := run.Command{Program: arguments[0], Args: arguments[1:], Timeout: patience, Join: true}.Run(ctx)
	return output.Stdout, err
}

// must runs hostProgram for a program whose output matters only if it fails. The error then quotes the output.
func must(ctx context.Context, arguments ...string) error {
	out, err := hostProgram(ctx, arguments...)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(arguments, " "), err, finding.Quote(out, finding.MostQuoted))
	}
	return nil
}
