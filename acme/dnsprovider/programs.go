package dnsprovider

import (
	"context"
	"maps"
	"os"
	"slices"
	"time"

	"mxcert/acme/finding"
	"mxcert/hooks/run"
)

const (
	// programGrace is the time between SIGTERM and SIGKILL.
	programGrace = 2 * time.Second
	// mostSaid limits the text of a program in an error, in bytes.
	mostSaid = 200

	shell = "/bin/sh"
)

// programs runs the operator's own programs, for exec and certbot-hook: see package run. They see PATH, HOME, LANG and
// dns.env, which may set these three.
type programs struct {
	provider string
	env      []string
	hidden   map[string]string // errors must not contain these values
	limit    time.Duration
}

// newPrograms takes dns.env. Errors may contain the values of the settings.
func newPrograms(provider string, env map[string]string, limit time.Duration, settings ...string) programs {
	hidden := maps.Clone(env)
	for _, name := range settings {
		delete(hidden, name)
	}
	all := map[string]string{}
	Undisturbed(func() {
		if home, ok := os.LookupEnv("HOME"); ok {
			all["HOME"] = home
		}
	})
	maps.Copy(all, env)
	return programs{provider: provider, env: sortedAssignments(all), hidden: hidden, limit: limit}
}

// call is one run of a program, for one record.
type call struct {
	arguments []string // the program first
	env       []string // in addition to that of all calls
	op        string   // as in Error
	name      string   // what is run, for an error
	record    TXT
	hint      string
}

// run returns what the program has written to its standard output, up to 64 KiB: execve accepts 128 KiB for a variable. A
// script whose first line does not name an interpreter is run by /bin/sh. The error is an *Error or the context's.
func (p programs) run(ctx context.Context, c call) (string, error) {
	output, err := run.Command{
		Program: c.arguments[0], Args: c.arguments[1:], Env: slices.Concat(p.env, c.env), Timeout: p.limit, Grace: programGrace,
	}.Run(ctx)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil:
		return output.Stdout, nil
	case run.Is(err, run.ExecFormat) && c.arguments[0] != shell:
		c.arguments = append([]string{shell}, c.arguments...)
		return p.run(ctx, c)
	}
	reason := capped(c.name+": "+err.Error(), p.provider, p.hidden)
	if output.Last != "" {
		reason += "; it said " + finding.Quoted(hide(output.Last, p.provider, p.hidden), mostSaid)
	}
	return "", &Error{Provider: p.provider, Op: c.op, What: recordText(c.record), Reason: reason, ErrKind: "dns-update", temporary: true, NextStep: c.hint}
}
