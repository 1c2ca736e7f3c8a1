package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"mxcert/cmd/mxcert/internal/setup"
)

// terminal asks a person: questions go to standard error, answers come from standard input. Input that is no terminal has the answers line by
// line.
type terminal struct {
	ctx   context.Context //nolint:containedctx // of the one command
	in    *bufio.Reader
	tty   *os.File // nil if the input is no terminal
	out   *console
	lines chan line
}

// line is one line of input.
type line struct {
	text string
	err  error
}

func newTerminal(ctx context.Context, in io.Reader, out *console) *terminal {
	t := &terminal{ctx: ctx, in: bufio.NewReader(in), out: out, lines: make(chan line)}
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		t.tty = file
	}
	return t
}

func (t *terminal) person() *setup.Person {
	return &setup.Person{Ask: t.ask, Say: func(format string, values ...any) { fmt.Fprintf(t.out, format+"\n", values...) }}
}

// ask puts one question. The last line of the input need not end.
func (t *terminal) ask(q setup.Question) (string, error) {
	text := q.Text
	if q.Suggestion != "" {
		text += " [" + q.Suggestion + "]"
	}
	fmt.Fprintf(t.out, "%s: ", text)
	show, err := t.hide(q.Secret)
	if err != nil {
		return "", err
	}
	go func() {
		text, err := t.in.ReadString('\n')
		t.lines <- line{text, err}
	}()
	select {
	case <-t.ctx.Done(): // the reader waits for its line until the program ends
		show()
		return "", t.ctx.Err()
	case l := <-t.lines:
		show()
		if errors.Is(l.err, io.EOF) && l.text != "" {
			l.err = nil
		}
		return l.text, l.err
	}
}

// hide switches the echo of the terminal off for a secret. show switches it on again and ends the line.
func (t *terminal) hide(secret bool) (show func(), err error) {
	if t.tty == nil || !secret {
		return func() {}, nil
	}
	fd := int(t.tty.Fd())
	before, err := withoutEcho(fd)
	if err != nil {
		return nil, err
	}
	return func() {
		_ = term.Restore(fd, before)
		fmt.Fprintln(t.out)
	}, nil
}
