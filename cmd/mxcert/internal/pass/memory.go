package pass

import (
	"context"
	"sync"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/watch"
)

// memoryLife is how long a look is remembered: as long as a daemon waits before it looks at everything again.
const memoryLife = time.Hour

// Memory remembers looks at the certificates of one configuration, as long as the files are the same on which they depend. What
// was proven is not proven again while size, times and inode of a file are what they were. Only looks that found everything in
// order are remembered.
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

// Look is [Look], from memory if it can be. live says that endpoints must be asked now; otherwise the report may say when they
// were asked, which is at most an hour ago.
func (m *Memory) Look(ctx context.Context, want wanted.Certificate, lineage *state.Lineage, live bool) report.Certificate {
	m.mu.Lock()
	known, ok := m.looks[want.Name]
	m.mu.Unlock()
	if ok && (!live || len(known.report.Endpoints) == 0) && time.Since(known.at) < memoryLife && watch.Unchanged(known.stamps) {
		return known.report
	}
	at := time.Now()
	r, sources := look(ctx, want, lineage)
	m.mu.Lock()
	defer m.mu.Unlock()
	if sources == nil || r.Code != report.CodeOK || r.Error != nil {
		delete(m.looks, want.Name)
		return r
	}
	stamps := watch.Stamps(sources)
	for _, stamp := range stamps {
		if time.Unix(0, stamp.Changed).After(at.Add(-time.Second)) {
			return r // written while it was looked at, perhaps
		}
	}
	if m.looks == nil {
		m.looks = map[string]remembered{}
	}
	m.looks[want.Name] = remembered{report: r, stamps: stamps, at: at}
	return r
}
