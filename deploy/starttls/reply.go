package starttls

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"

	"mxcert/acme/finding"
)

// These are limits on a reply. RFC 5321 section 4.5.3.1.5 allows 512 octets in a line; servers with long texts exceed that.
const (
	maxLine  = 2048 // octets, including the line end
	maxLines = 100
	maxQuote = 200 // octets of foreign text that are kept
)

// reply is one SMTP reply: 200 to 599, and the text of each line, at least one, without code and line end.
type reply struct {
	code  int
	lines []string
}

// syntaxError says how a reply breaks RFC 5321 section 4.2.
type syntaxError struct{ reason string }

func (e *syntaxError) Error() string { return "the reply is not SMTP: " + e.reason }

func malformed(format string, a ...any) error { return &syntaxError{fmt.Sprintf(format, a...)} }

// readReply reads one reply (RFC 5321 section 4.2): three digits, then a hyphen on all lines but the last, then text, which may be missing.
// All lines have the same code. in must be at least maxLine large.
//
// It accepts two deviations, because sending mail servers accept them: a line may end in LF alone, and the second digit of the code may be
// 6 to 9 (571 is common). It refuses a CR or NUL inside a line, because attackers smuggle replies that way.
func readReply(in *bufio.Reader) (reply, error) {
	var r reply
	for {
		line, err := readLine(in)
		if err != nil {
			return reply{}, err
		}
		code, last, text, err := splitLine(line)
		if err != nil {
			return reply{}, err
		}
		if r.code != 0 && code != r.code {
			return reply{}, malformed("its lines have different codes, %d and %d", r.code, code)
		}
		r.code = code
		r.lines = append(r.lines, text)
		if last {
			return r, nil
		}
		if len(r.lines) == maxLines {
			return reply{}, malformed("it has more than %d lines", maxLines)
		}
	}
}

// readLine returns a line without its end. The slice is valid until the next read.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, malformed("a line is longer than %d bytes: %s", maxLine, literal(line))
	}
	if err != nil {
		return nil, err
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if bytes.ContainsAny(line, "\r\x00") {
		return nil, malformed("a line contains a bare CR or NUL: %s", literal(line))
	}
	return line, nil
}

func splitLine(line []byte) (code int, last bool, text string, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !digit(line[1]) || !digit(line[2]) {
		return 0, false, "", malformed("a line does not begin with a reply code: %s", literal(line))
	}
	code = 100*int(line[0]-'0') + 10*int(line[1]-'0') + int(line[2]-'0')
	if len(line) == 3 {
		return code, true, "", nil
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, false, "", malformed("neither a space nor a hyphen follows the reply code: %s", literal(line))
	}
	return code, line[3] == ' ', string(line[4:]), nil
}

func digit(b byte) bool { return b >= '0' && b <= '9' }

// extensions lists what an EHLO reply offers (RFC 5321 section 4.1.1.1), upper case; the first line is the greeting.
func (r reply) extensions() []string {
	var list []string
	for _, line := range r.lines[1:] {
		list = append(list, finding.Quote(strings.ToUpper(line), maxQuote))
	}
	return list
}

// offers looks for the keyword at the beginning of an extension line.
func offers(extensions []string, keyword string) bool {
	for _, line := range extensions {
		name, _, _ := strings.Cut(line, " ")
		if strings.EqualFold(name, keyword) {
			return true
		}
	}
	return false
}

// quoted formats foreign text for a message.
func quoted(text string) string { return finding.Quoted(text, maxQuote) }

// literal formats foreign text whose very bytes are the fault. Bytes that cannot be printed appear as escapes.
func literal(text []byte) string {
	if len(text) > maxQuote {
		return fmt.Sprintf("%q…", text[:maxQuote])
	}
	return fmt.Sprintf("%q", text)
}
