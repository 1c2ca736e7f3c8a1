package tlsrpt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"mxcert/acme/finding"
)

// reader walks through JSON, value by value, so that nothing large is kept. Only the texts that callers ask for are.
type reader struct{ *json.Decoder }

// mostDepth limits lists and objects in each other that nobody asks for. A report has five.
const mostDepth = 64

// next returns the next token: a string, a json.Number, a bool, nil or a json.Delim.
func (d reader) next() (json.Token, error) {
	token, err := d.Token()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, ErrCutOff
	case errors.Is(err, errLarge), errors.Is(err, errSpace):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("it is no valid JSON: %s", finding.Quote(err.Error(), mostText))
	}
	return token, nil
}

// skip reads the rest of a value that begins with token.
func (d reader) skip(token json.Token) error {
	delim, nested := token.(json.Delim)
	if !nested || delim == ']' || delim == '}' {
		return nil
	}
	for depth := 1; depth > 0; {
		token, err := d.next()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > mostDepth {
				return errors.New("its lists are nested too deep")
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return nil
}

// objects reads an object, or a list of them. null and anything else count as an empty list. begin is called for each object, field for each
// of its keys: field reads the value. A key that is there twice is an error, because nobody knows which one counts.
func (d reader) objects(begin func() error, field func(key string) error) error {
	token, err := d.next()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		if err := begin(); err != nil {
			return err
		}
		return d.fields(field)
	case json.Delim('['):
		return d.elements(begin, field)
	}
	return nil
}

// elements reads the rest of a list of objects.
func (d reader) elements(begin func() error, field func(key string) error) error {
	for d.More() {
		token, err := d.next()
		switch {
		case err != nil:
			return err
		case token != json.Delim('{'):
			err = d.skip(token)
		default:
			if err = begin(); err == nil {
				err = d.fields(field)
			}
		}
		if err != nil {
			return err
		}
	}
	_, err := d.next()
	return err
}

// mostKeys limits the keys of an object. A report has six.
const mostKeys = 100

// fields reads the fields of an object whose brace is read already.
func (d reader) fields(field func(key string) error) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.next()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		switch {
		case seen[key]:
			return fmt.Errorf("it has %s twice", finding.Quoted(key, mostText))
		case len(seen) == mostKeys:
			return errors.New("an object in it has too many keys")
		}
		seen[key] = true
		if err := field(key); err != nil {
			return err
		}
	}
	_, err := d.next()
	return err
}

// raw reads a value and returns it as text: "" for null, for lists and for objects.
func (d reader) raw() (string, error) {
	token, err := d.next()
	if err != nil {
		return "", err
	}
	switch value := token.(type) {
	case string:
		return value, nil
	case json.Number:
		return value.String(), nil
	}
	return "", d.skip(token)
}

// text reads a value as text that is safe to print. Of a list it is the first element: some senders write lists where a text belongs.
func (d reader) text() (string, error) {
	list, err := d.texts(1)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return list[0], nil
}

// texts reads a list of texts, or one text. It keeps the first most of them.
func (d reader) texts(most int) ([]string, error) {
	token, err := d.next()
	if err != nil {
		return nil, err
	}
	switch value := token.(type) {
	case string:
		return []string{safe(value)}, nil
	case json.Number:
		return []string{safe(value.String())}, nil
	case json.Delim:
		if value != '[' {
			return nil, d.skip(token)
		}
	default:
		return nil, nil
	}
	var list []string
	for d.More() {
		text, err := d.raw()
		if err != nil {
			return nil, err
		}
		if len(list) < most {
			list = append(list, safe(text))
		}
	}
	_, err = d.next()
	return list, err
}

// safe makes a foreign text safe to print, and short.
func safe(text string) string {
	return strings.Clone(finding.Quote(text[:min(len(text), 4*mostText)], mostText))
}

// count reads a number of sessions. what names it in errors.
func (d reader) count(what string) (int64, error) {
	text, err := d.raw()
	if err != nil || text == "" {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil { // 3.0 and 1e2 are whole numbers, too
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f != f || f > mostSessions || f < -mostSessions || f != float64(int64(f)) {
			return 0, fmt.Errorf("%s is no number of sessions: %s", what, finding.Quoted(text, 40))
		}
		n = int64(f)
	}
	if n < 0 || n > mostSessions {
		return 0, fmt.Errorf("%s is no number of sessions: %s", what, finding.Quoted(text, 40))
	}
	return n, nil
}

// mostRun limits white space without a break, and one text or number, in bytes.
const mostRun = 64 << 10

var (
	errSpace = errors.New("it is white space for the most part")
	errLong  = fmt.Errorf("a text in it: %w", errLarge)
)

// dense refuses much white space without a break, because the JSON decoder looks at all of it again each time it reads more, and what is long
// without an end, because the decoder keeps it whole.
type dense struct {
	from    io.Reader
	run     int  // of white space
	token   int  // length of the text or number
	text    bool // within a text
	escaped bool // within it, after a backslash
}

// Read reads some.
func (d *dense) Read(p []byte) (int, error) {
	n, err := d.from.Read(p)
	for _, c := range p[:n] {
		d.take(c)
		switch {
		case d.run > mostRun:
			return 0, errSpace
		case d.token > mostRun:
			return 0, errLong
		}
	}
	return n, err
}

// take counts one byte.
func (d *dense) take(c byte) {
	space := c == ' ' || c == '\t' || c == '\n' || c == '\r'
	if d.run++; !space {
		d.run = 0
	}
	d.token++
	switch {
	case d.escaped:
		d.escaped = false
	case d.text && c == '\\':
		d.escaped = true
	case c == '"':
		d.text, d.token = !d.text, 0
	case !d.text && (space || strings.IndexByte("{}[],:", c) >= 0):
		d.token = 0
	}
}
