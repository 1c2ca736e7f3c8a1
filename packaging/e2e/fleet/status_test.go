package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// fleetStatus is what `mxcert fleet status --json` prints, as its documentation says.
type fleetStatus struct {
	Fleet, Host string
	Engine      struct {
		Up           bool
		Since        time.Time
		Reason, Hint string
	}
	Hosts []struct {
		Host      string
		Alive     bool
		Recipient string
	}
	Certificates []struct {
		Name, Key, Serial string
		Generation        int64
		Host              string
		Hosts             []struct {
			Host    string
			Wanted  bool
			OnDisk  string `json:"on_disk"`
			Served  string
			Matches bool
			Reason  string
		}
	}
	Recipients []struct {
		Recipient, Host, State string
	}
	code int
}

// fleetStatus asks a host.
func (w *town) fleetStatus(ctx context.Context, h *host) (s fleetStatus, err error) {
	r, err := h.Run(ctx, "mxcert", "fleet", "status", "--json")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		return s, fmt.Errorf("fleet status: exit status %d: %w\n%s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	s.code = r.Code
	return s, nil
}

// wrong says what is not as it should be in a fleet that is well.
func (s fleetStatus) wrong(hosts int) error {
	switch {
	case s.code != 0:
		return fmt.Errorf("exit status %d: %+v", s.code, s)
	case !s.Engine.Up:
		return fmt.Errorf("etcd is away since %v: %s", s.Engine.Since, s.Engine.Reason)
	case len(s.Hosts) != hosts || len(s.Certificates) == 0:
		return fmt.Errorf("%d hosts, %d certificates", len(s.Hosts), len(s.Certificates))
	}
	for _, h := range s.Hosts {
		if !h.Alive {
			return fmt.Errorf("%s is not alive", h.Host)
		}
	}
	for _, c := range s.Certificates {
		for _, h := range c.Hosts {
			if !h.Matches || h.OnDisk != c.Serial || h.Served != c.Serial {
				return fmt.Errorf("%s has %s and serves %s of %s: %s", h.Host, h.OnDisk, h.Served, c.Serial, h.Reason)
			}
		}
	}
	return nil
}
