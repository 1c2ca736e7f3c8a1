package tlsrpt

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode"
)

// Read reads the reports of one input. The error is ErrNone if it has none, and ErrCutOff if it ends in the middle of one. If an mbox has
// reports that cannot be read, Read returns the others with the first error.
func Read(r io.Reader) ([]Report, error) {
	buffered := bufio.NewReaderSize(&capped{r, mostInput}, 64<<10)
	start, err := buffered.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	text := bytes.TrimLeftFunc(bytes.TrimPrefix(start, []byte("\xef\xbb\xbf")), unicode.IsSpace)
	switch {
	case len(text) == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrNone)
	case bytes.HasPrefix(start, []byte("PK\x03\x04")):
		return nil, errors.New("it is a zip file, which RFC 8460 does not allow")
	case text[0] == '{', text[0] == '[', bytes.HasPrefix(start, []byte("\x1f\x8b")):
		report, err := fromFile(buffered)
		if err != nil {
			return nil, err
		}
		return []Report{report}, nil
	case bytes.HasPrefix(start, []byte("From ")):
		return fromMailbox(buffered)
	}
	return fromMail(buffered)
}

// fromMailbox reads the reports of an mbox: mails one after another, each after a line that starts with "From " (RFC 4155).
func fromMailbox(r *bufio.Reader) (reports []Report, fault error) {
	box, kept := &mailbox{r: r}, 0
	for box.next() {
		found, err := fromMail(box)
		if _, e := io.Copy(io.Discard, box); err == nil {
			err = e
		}
		reports = append(reports, found...)
		for _, r := range found {
			kept += weight(r)
		}
		switch {
		case errors.Is(err, errLarge) && box.err != nil:
			return reports, err
		case err != nil && !errors.Is(err, ErrNone) && fault == nil:
			fault = err
		}
		if kept > mostKept {
			return reports, fmt.Errorf("it has more than %d policies and failures", mostKept)
		}
		if len(reports) > mostReports {
			return reports[:mostReports], fmt.Errorf("it has more than %d reports", mostReports)
		}
	}
	if len(reports) == 0 && fault == nil {
		fault = ErrNone
	}
	return reports, fault
}

// mailbox is the mails of an mbox. As a reader it is the one mail that it is at.
type mailbox struct {
	r    *bufio.Reader
	rest []byte // of the current line
	more bool   // the current line goes on in the buffer
	from bool   // the next mail has begun
	err  error
}

// next goes to the next mail.
func (m *mailbox) next() bool {
	if m.err != nil {
		return false
	}
	if !m.from {
		m.line()
	}
	m.from = false
	m.rest = nil // the line that separates
	for m.more {
		m.line()
		m.rest = nil
	}
	return m.err == nil
}

// line reads the next line, or a piece of a long one.
func (m *mailbox) line() {
	begins := !m.more
	line, err := m.r.ReadSlice('\n')
	m.more = errors.Is(err, bufio.ErrBufferFull)
	if err != nil && !m.more {
		m.err = err
	}
	if begins && bytes.HasPrefix(line, []byte("From ")) {
		m.from = true
	}
	m.rest = line
}

// Read reads from the current mail.
func (m *mailbox) Read(p []byte) (int, error) {
	if len(m.rest) == 0 || m.from {
		if m.from {
			return 0, io.EOF
		}
		if m.err != nil {
			return 0, m.err
		}
		if m.line(); m.from {
			return 0, io.EOF
		}
		if len(m.rest) == 0 {
			return 0, m.err
		}
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}
