package dnsprovider

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

// execTime bounds one run of the program.
const execTime = 2 * time.Minute

// execProgram runs an operator's program for each record, by the protocol of lego's provider "exec":
//
//	PROGRAM present|cleanup FQDN VALUE
//
// or, with EXEC_MODE=RAW, PROGRAM present|cleanup -- DOMAIN TOKEN KEYAUTH. mxcert does not use lego's own provider: it can
// neither be stopped nor limited in time, it hangs on long lines, it drops the output of the program, and it passes the
// environment of the process to the program.
type execProgram struct {
	programs programs
	path     string
	raw      bool
}

func newExec(env map[string]string) (Solver, error) {
	p := &execProgram{path: env["EXEC_PATH"], programs: newPrograms("exec", env, execTime, "EXEC_PATH")}
	if p.path == "" {
		return nil, &Error{Provider: "exec", Op: "set up", What: "EXEC_PATH", Reason: "it is missing", ErrKind: "dns-config", NextStep: "set dns.env.EXEC_PATH to the program to run"}
	}
	if _, err := exec.LookPath(p.path); err != nil {
		return nil, &Error{Provider: "exec", Op: "set up", What: "EXEC_PATH", Reason: err.Error(), ErrKind: "dns-config", NextStep: "correct the path, or make the file executable (chmod +x)"}
	}
	switch env["EXEC_MODE"] {
	case "":
	case "RAW":
		p.raw = true
	default:
		return nil, &Error{Provider: "exec", Op: "set up", What: "EXEC_MODE", Reason: fmt.Sprintf("%.40q is not a mode", env["EXEC_MODE"]), ErrKind: "dns-config", NextStep: "leave it out, or set it to RAW"}
	}
	return p, nil
}

// Present runs the program for one record after another.
func (p *execProgram) Present(ctx context.Context, records []TXT) error {
	for _, r := range records {
		if err := p.run(ctx, "create", "present", r); err != nil {
			return err
		}
	}
	return nil
}

// CleanUp runs the program for one record after another, and continues after a failure.
func (p *execProgram) CleanUp(ctx context.Context, records []TXT) error {
	var problems []error
	for _, r := range records {
		problems = append(problems, p.run(ctx, "remove", "cleanup", r))
	}
	return errors.Join(problems...)
}

func (p *execProgram) run(ctx context.Context, op, verb string, r TXT) error {
	arguments := []string{p.path, verb, r.Name, r.Value}
	if p.raw {
		arguments = []string{p.path, verb, "--", r.Domain, r.Token, r.KeyAuth}
	}
	_, err := p.programs.run(ctx, call{arguments: arguments, op: op, name: p.path + " " + verb, record: r,
		hint: "run it by hand: " + p.path + " " + verb + " " + r.Name + " VALUE"})
	return err
}
