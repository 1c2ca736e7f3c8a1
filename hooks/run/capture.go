package run

import (
	"bytes"
	"strings"
	"sync"
)

// keepEnd is how much of the end of an output is kept, so that its last line is known.
const keepEnd = 2 << 10

// capture keeps the beginning and the end of what is written to it. It is safe for concurrent use, because a process that even SIGKILL does
// not end may still write.
type capture struct {
	keep  int
	until string        // the text that closes seen; "" never does
	seen  chan struct{} // closed when the text is there

	mu         sync.Mutex
	begin, end []byte
	cut        bool
}

// Write never fails, so that the program never blocks on its output.
func (c *capture) Write(text []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, before := min(len(text), c.keep-len(c.begin)), len(c.begin)
	c.begin = append(c.begin, text[:n]...)
	if c.until != "" && bytes.Contains(c.begin[max(0, before-len(c.until)):], []byte(c.until)) {
		c.until = ""
		close(c.seen)
	}
	c.cut = c.cut || n < len(text)
	c.end = append(c.end, text[max(0, len(text)-keepEnd):]...)
	if extra := len(c.end) - keepEnd; extra > 0 {
		c.end = append(c.end[:0], c.end[extra:]...)
	}
	return len(text), nil
}

func (c *capture) text() (begin string, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.begin), c.cut
}

// lastLine returns the last line that is not blank, without space around it.
func (c *capture) lastLine() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := strings.TrimSpace(string(c.end))
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}
