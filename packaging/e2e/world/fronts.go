package world

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"
)

//go:embed fronts.py
var frontsProgram string

// A Front is a name server that stands before a good one and does one thing wrong.
type Front struct {
	Address  string // of its host; Front adds it
	Mode     string // what it does: see fronts.py
	Upstream string // the server before which it stands; "" is BINDServer
}

// Modes of fronts: questions for TLSA records that it answers by an error, or not at all; the bit AD in every answer; silence; truncation
// without TCP; and the hostile ones: a loop of ever longer aliases, huge answers, lies, garbage, TCP without an end.
const (
	ServfailTLSA = "servfail-tlsa"
	RefusedTLSA  = "refused-tlsa"
	FormerrTLSA  = "formerr-tlsa"
	NotimpTLSA   = "notimp-tlsa"
	DropTLSA     = "drop-tlsa"
	SetsAD       = "ad"
	Silent       = "silent"
	NoTCP        = "no-tcp"
	Loops        = "loop"
	Huge         = "huge"
	Liar         = "liar"
	Garbage      = "garbage"
	EndlessTCP   = "endless-tcp"
)

// Fronts starts fronts on the host, and returns when they answer.
func (h *Host) Fronts(ctx context.Context, fronts ...Front) (*Process, error) {
	argv := []string{"python3", "/srv/fronts.py"}
	for _, f := range fronts {
		if f.Upstream == "" {
			f.Upstream = BINDServer
		}
		prefix := f.Address + "/24"
		if strings.Contains(f.Address, ":") {
			prefix = f.Address + "/64"
		}
		if !strings.HasPrefix(f.Address, "127.") {
			if err := h.AddAddress(prefix); err != nil {
				return nil, err
			}
		}
		argv = append(argv, f.Address+"="+f.Mode+"="+f.Upstream)
	}
	if err := h.Write("/srv/fronts.py", frontsProgram, 0o644); err != nil {
		return nil, err
	}
	p, err := h.Start(argv...)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.Output(), "ready"); {
		if p.Ended() || time.Now().After(deadline) || ctx.Err() != nil {
			p.Stop()
			return nil, fmt.Errorf("fronts: %w\n%s", errors.Join(ctx.Err(), errors.New("they do not answer")), p.Output())
		}
		time.Sleep(20 * time.Millisecond)
	}
	return p, nil
}
