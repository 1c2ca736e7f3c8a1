package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"
)

// The few colours that mxcert uses. They are off with --no-color, with NO_COLOR, on a dumb terminal, or if the
// output is not a terminal.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
	faint  = "2"
)

// inASCII replaces the signs beyond ASCII that mxcert itself writes.
func inASCII(text string) string {
	return strings.NewReplacer("✓", "+", "✗", "x", "·", "-", "→", "->", "…", "...", "\uFFFD", "?").Replace(text)
}

// dumb reports whether the terminal, by its name, obeys no sequences.
func dumb() bool { return os.Getenv("TERM") == "dumb" }

// wantsASCII reports whether the environment asks for plain ASCII: a dumb terminal, or the locale C (locale(7)). Without any locale mxcert
// writes UTF-8, as journals and pipes of today take it.
func wantsASCII() bool {
	locale := cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG"))
	return dumb() || locale == "C" || locale == "POSIX"
}

// console is the only way to standard output and standard error. A text may come from a CA, a name server, a provider, the daemon or the
// state directory, and a person's terminal obeys what is in it. So a console replaces every character that cannot be printed, whatever
// its source. Only what [app.paint] and [console.control] add themselves gets through.
type console struct {
	out   io.Writer
	ascii bool // write signs in ASCII
	mu    sync.Mutex
	err   error // of the first write that failed, so that mxcert does not report success for a result that nobody received
}

// Write writes a text with U+FFFD for each character that cannot be printed. A text with a part of a character at its end is damaged, so
// a caller writes whole ones.
func (c *console) Write(text []byte) (int, error) {
	clean := printable(text)
	if c.ascii {
		clean = []byte(inASCII(string(clean)))
	}
	if err := c.raw(clean); err != nil {
		return 0, err
	}
	return len(text), nil
}

// data writes a document, such as JSON or YAML, like Write, but keeps the signs that are in it.
func (c *console) data(text []byte) error { return c.raw(printable(text)) }

func printable(text []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if plain(r) {
			return r
		}
		return utf8.RuneError
	}, text)
}

// control writes a sequence that the terminal obeys. It must be a constant of mxcert.
func (c *console) control(sequence string) { _ = c.raw([]byte(sequence)) }

func (c *console) raw(text []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.out.Write(text)
	if err != nil && c.err == nil {
		c.err = err
	}
	return err
}

// isTerminal reports whether a terminal shows what is written.
func (c *console) isTerminal() bool {
	file, ok := c.out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// width returns how many columns a line may have: those of the terminal, or 80.
func (c *console) width() int {
	if file, ok := c.out.(*os.File); ok {
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
			return max(columns, 40)
		}
	}
	return 80
}

// paint writes a text in a colour.
func (a *app) paint(out *console, text, colour string) {
	if a.noColor || dumb() || !out.isTerminal() {
		fmt.Fprint(out, text)
		return
	}
	out.control("\x1b[" + colour + "m")
	fmt.Fprint(out, text)
	out.control("\x1b[0m")
}

// plain reports whether a terminal only shows a character, or ends a line or a column with it. All others may be commands, or change the
// direction of writing.
func plain(r rune) bool { return r == '\n' || r == '\t' || unicode.IsPrint(r) }

// escaped returns a JSON document with \u for each character that is not plain. Outside of strings JSON has none, so the values stay the
// same. encoding/json itself escapes only those below U+0020, U+2028 and U+2029.
func escaped(document []byte) []byte {
	var out bytes.Buffer
	for _, r := range string(document) {
		if plain(r) {
			out.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&out, `\u%04x`, unit)
		}
	}
	return out.Bytes()
}
