package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"mxcert/configs"
	"mxcert/hooks/run"

	"mxcert/cmd/mxcert/internal/report"
)

// mostReport limits what the process that makes a report may print, in bytes.
const mostReport = 16 << 20

// reportByOwner makes a report for root. Who looks at the state becomes its owner, for good, and that user may not write where root may. So
// another process looks and prints the report, and this one, which never opens the state, writes the file.
func (a *app) reportByOwner(ctx context.Context, f reportFlags) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	c := run.Command{Program: program, Args: []string{"report", "--config", a.configFile}, Timeout: verifyTime, Grace: time.Second, Keep: mostReport}
	if until, ok := ctx.Deadline(); ok {
		c.Timeout = time.Until(until)
		c.Args = append(c.Args, "--timeout", c.Timeout.Round(time.Second).String())
	}
	switch {
	case f.ics != "":
		c.Args = append(c.Args, "--ics", stdoutFile)
	case f.verify:
		c.Args = append(c.Args, "--html", stdoutFile, "--verify")
	default:
		c.Args = append(c.Args, "--html", stdoutFile)
	}
	if a.quiet {
		c.Args = append(c.Args, "--quiet")
	}
	if a.configFile == configs.Stdin {
		if c.Input, err = io.ReadAll(io.LimitReader(os.Stdin, mostReport)); err != nil {
			return err
		}
	}
	output, err := c.Run(ctx)
	fmt.Fprint(a.stderr, output.Stderr)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 && output.Stderr != "" {
		return &report.Exit{Code: report.Code(exit.ExitCode())} // it has said why
	}
	if err == nil && output.Cut {
		err = errors.New("it is too large")
	}
	if err != nil {
		return fmt.Errorf("the report could not be made: %w", err)
	}
	return a.writeReport(f, func(w io.Writer) error { _, err := io.Copy(w, strings.NewReader(output.Stdout)); return err })
}
