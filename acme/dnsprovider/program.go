package dnsprovider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// programTime bounds one run of the program.
	programTime = 2 * time.Minute
	// programGrace is the time between SIGTERM and SIGKILL, and how long output is read after the program has ended.
	programGrace = 2 * time.Second
	// programOutput is how much of the end of its output is kept for an error.
	programOutput = 2 << 10
)

// program runs an operator's program for each record, by the protocol of lego's provider "exec":
//
//	PROGRAM present|cleanup FQDN VALUE
//
// or, with EXEC_MODE=RAW, PROGRAM present|cleanup -- DOMAIN TOKEN KEYAUTH. lego's own is not used, because it can
// neither be stopped nor bounded in time, hangs on long lines, drops what the program says, and gives it the
// environment of the process, in which another provider's secrets may be at that moment. Here the program sees PATH,
// LANG and dns.env.
type program struct {
	path   string
	raw    bool
	env    []string
	hidden map[string]string // of which no value goes into an error
}

func newProgram(env map[string]string) (Solver, error) {
	p := &program{path: env["EXEC_PATH"], hidden: maps.Clone(env), env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}}
	if p.path == "" {
		return nil, &Error{Provider: "exec", Op: "set up", What: "EXEC_PATH", Reason: "it is missing", ErrKind: "dns-config", NextStep: "set dns.env.EXEC_PATH to the program to run"}
	}
	if _, err := exec.LookPath(p.path); err != nil {
		return nil, &Error{Provider: "exec", Op: "set up", What: "EXEC_PATH", Reason: err.Error(), ErrKind: "dns-config", NextStep: "mend the path, or make the file executable (chmod +x)"}
	}
	switch env["EXEC_MODE"] {
	case "":
	case "RAW":
		p.raw = true
	default:
		return nil, &Error{Provider: "exec", Op: "set up", What: "EXEC_MODE", Reason: fmt.Sprintf("%.40q is no mode", env["EXEC_MODE"]), ErrKind: "dns-config", NextStep: "leave it out, or set it to RAW"}
	}
	delete(p.hidden, "EXEC_PATH")
	for name, value := range env {
		p.env = append(p.env, name+"="+value)
	}
	slices.Sort(p.env)
	return p, nil
}

// Present runs the program for one record after another.
func (p *program) Present(ctx context.Context, records []Record) error {
	for _, r := range records {
		if err := p.run(ctx, "create", "present", r); err != nil {
			return err
		}
	}
	return nil
}

// CleanUp runs the program for one record after another; a failure does not keep it from the rest.
func (p *program) CleanUp(ctx context.Context, records []Record) error {
	var first error
	for _, r := range records {
		if err := p.run(ctx, "remove", "cleanup", r); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (p *program) run(ctx context.Context, op, verb string, r Record) error {
	arguments := []string{verb, r.Name, r.Value}
	if p.raw {
		arguments = []string{verb, "--", r.Domain, r.Token, r.KeyAuth}
	}
	timed, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	output := &tail{}
	command := exec.CommandContext(timed, p.path, arguments...)
	command.Env, command.Stdout, command.Stderr = p.env, output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = programGrace
	err := command.Run()
	if timed.Err() != nil && command.Process != nil {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // what did not heed SIGTERM; usually nothing
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it is done, and left something running
		return nil
	case timed.Err() != nil:
		err = fmt.Errorf("it was stopped after %s", programTime)
	}
	reason := fmt.Sprintf("%s %s: %v", p.path, verb, err)
	if last := output.lastLine(); last != "" {
		reason += fmt.Sprintf("; it said %.200q", last)
	}
	return &Error{Provider: "exec", Op: op, What: "TXT record " + strings.TrimSuffix(r.Name, "."), Reason: capped(reason, p.hidden), ErrKind: "dns-update", temporary: true,
		NextStep: "run it by hand: " + p.path + " " + verb + " " + r.Name + " VALUE"}
}

// tail keeps the end of what is written to it. os/exec writes from one goroutine when both outputs are the same.
type tail struct{ kept []byte }

// Write never fails, so that the program never blocks on its output.
func (t *tail) Write(text []byte) (int, error) {
	t.kept = append(t.kept, text...)
	if extra := len(t.kept) - programOutput; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	return len(text), nil
}

func (t *tail) lastLine() string {
	text := strings.TrimSpace(string(t.kept))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
