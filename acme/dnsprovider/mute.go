package dnsprovider

import (
	"io"
	"log"
	"sync"

	legolog "github.com/go-acme/lego/v4/log"
)

var muteOnce sync.Once //nolint:gochecknoglobals // it guards globals of libraries

// muteLibraries silences what providers and their libraries write to standard error by themselves. It may be raw text of peers with
// secrets, and nobody has made it safe for a terminal. The output of package log is global; mxcert itself does not use it.
func muteLibraries() {
	muteOnce.Do(func() {
		legolog.Logger = log.New(io.Discard, "", 0)
		log.SetOutput(io.Discard)
		muteOthers()
	})
}
