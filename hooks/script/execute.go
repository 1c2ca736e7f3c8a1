package script

import (
	"context"
	"errors"
	"time"

	"mxcert/hooks/run"
)

// grace is the time between SIGTERM and SIGKILL.
const grace = 3 * time.Second

// execute runs one hook to its end.
func execute(ctx context.Context, path string, env []string, input []byte, timeout time.Duration) Outcome {
	start := time.Now()
	output, err := run.Command{Program: path, Env: env, Dir: "/", Input: input, Timeout: timeout, Grace: grace, Join: true}.Run(ctx)
	o := Outcome{Hook: path, Duration: time.Since(start), Output: output.Stdout}
	if failed, ok := errors.AsType[*run.Error](err); ok {
		o.Err = &Error{Hook: path, kind: kindOf(failed), reason: failed.Error(), said: output.Last, cause: failed.Unwrap()}
	}
	return o
}

// kindOf uses one word for all reasons why a hook could not be started.
func kindOf(e *run.Error) string {
	switch kind := e.Kind(); kind {
	case run.Failed, run.TimedOut, run.Canceled:
		return kind
	}
	return "cannot-start"
}
