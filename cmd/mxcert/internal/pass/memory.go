package pass

import (
	"context"
	"sync"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/watch"
)

// memoryLife is how long mxcert remembers a look: as long as the daemon waits before it looks at everything again.
const memoryLife = time.Hour

// Memory remembers looks at the certificates of one configuration. A look is valid as long as the files it depends on keep their size,
// times and inode; until then mxcert does not prove the same again. Memory keeps only looks that found everything in order.
type Memory struct {
	mu    sync.Mutex
	looks map[string]remembered // by certificate
}

// remembered is one look.
type remembered struct {
	report report.Certificate
	stamps map[string]watch.Stamp
	at     time.Time
}

// Look does what the function [Look] does, from memory if possible. If live is set, it asks the endpoints now. Otherwise the report may
// show an answer of the endpoints that is up to an hour old, with its time.
func (m *Memory) Look(ctx context.Context, files *helper.Looker, want wanted.Certificate, lineage *state.Lineage, live bool) report.Certificate {
	m.mu.Lock()
	known, ok := m.looks[want.Name]
	m.mu.Unlock()
	if ok && (!live || len(known.report.Endpoints) == 0) && time.Since(known.at) < memoryLife && watch.Unchanged(known.stamps) {
		return known.report
	}
	at := time.Now()
	r, sources := look(ctx, files, want, lineage)
	m.mu.Lock()
	defer m.mu.Unlock()
	if sources == nil || r.Code != report.CodeOK || r.Error != nil {
		delete(m.looks, want.Name)
		return r
	}
	stamps := watch.Stamps(sources)
	for _, stamp := range stamps {
		if time.Unix(0, stamp.Changed).After(at.Add(-time.Second)) {
			return r // a file may have been written during the look
		}
	}
	if m.looks == nil {
		m.looks = map[string]remembered{}
	}
	m.looks[want.Name] = remembered{report: r, stamps: stamps, at: at}
	return r
}
