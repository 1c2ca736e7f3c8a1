package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"time"

	"mxcert/acme/state"
)

// nameForm is what names of fleets and hosts look like: host names, in lower case.
func nameForm() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
}

// check checks what New is given.
func (s *Settings) check() error {
	form := nameForm()
	for what, name := range map[string]string{"name": s.Name, "host": s.Host} {
		if len(name) > 200 || !form.MatchString(name) {
			return refusal("use lower-case letters, digits and hyphens, as in host names", "fleet.%s: %.80q cannot be a name", what, name)
		}
	}
	if s.Identity == nil && s.Identify == nil {
		return refusal("make one with age-keygen and name it in fleet.identity", "fleet.identity: this host has no identity")
	}
	return nil
}

// cluster is the value that says whose the store is.
type cluster struct {
	Made string `json:"made"` // random
}

// alive is the value of a host that is at work.
type alive struct {
	Session string `json:"session"`
}

const (
	clusterPlace   = "cluster"
	hostsPlace     = "hosts"
	recipientsRoom = "recipient"
)

// Join makes the first checks and writes nothing: that the store can be asked, is that of this fleet, and knows no other host with this name.
// The error is a [*Refusal] if this host must not take part.
func (m *Member) Join(ctx context.Context) error {
	if m == nil {
		return refusal("", "this host is in no fleet")
	}
	m.mu.Lock()
	m.down, m.entered = nil, false
	m.mu.Unlock()
	_, err := m.look(ctx)
	if err == nil || ctx.Err() == nil {
		m.judge(err)
	}
	return err
}

// found is what the first look at the store has shown.
type lookedAt struct {
	identity string
	made     string // "": the store has no fleet yet
	unsigned bool   // who has signed the mark is not trusted any more
	revision int64  // of the mark
}

// look makes the first checks, without a change.
func (m *Member) look(ctx context.Context) (lookedAt, error) {
	if m.shared == nil {
		return lookedAt{}, refusal("see the key fleet of the configuration", "this host has no store of a fleet")
	}
	var at lookedAt
	err := m.knowsTrust()
	if err == nil {
		err = m.knowsSelf()
	}
	if err != nil {
		return at, err
	}
	if at.identity, err = m.shared.Identity(ctx); err != nil {
		return at, err
	}
	if _, _, _, err := m.readTrust(ctx); err != nil { // it decides whose signature counts
		return at, err
	}
	if err := m.departed(); err != nil {
		return at, err
	}
	if err := m.whose(ctx, &at); err != nil {
		return at, err
	}
	return at, m.twin(ctx)
}

// departed refuses to take part once this host was removed: the others refuse what it writes, and write it again.
func (m *Member) departed() error {
	if !m.trust.Load().isRemoved(m.recipient()) {
		return nil
	}
	return refusal("if it shall take part again, make a new identity with age-keygen, and run on another host: mxcert fleet recipients add AGE1… --host "+m.set.Host,
		"the recipient of this host was removed from the fleet, for good")
}

// whose checks that the store is this fleet's; made is "" if it is empty.
//
// The host that has signed the mark may have left since: the mark that this host remembers is believed in any case,
// also in a store that was restored from a backup.
func (m *Member) whose(ctx context.Context, at *lookedAt) error {
	value, err := m.shared.Get(ctx, clusterPlace)
	if errors.Is(err, fs.ErrNotExist) {
		return m.mayBegin(at.identity)
	}
	if err != nil {
		return err
	}
	at.revision = value.Revision
	var c cluster
	_, _, err = m.vault().readNote(value.Value, clusterPlace, 0, &c)
	switch {
	case err == nil:
		at.made = c.Made
		return nil
	case isRefused(err, LaterVersion):
		return refusal("install this version of mxcert on this host as well; until then it serves what it has", "%v", err)
	}
	var n note
	theirs, parseErr := parse(value.Value, clusterPlace)
	if parseErr != nil || decode(theirs.Payload, clusterPlace, &n) != nil || n.Fleet == "" {
		return refusal("correct fleet.etcd.endpoints, or remove the foreign keys below the prefix of the fleet", "the store holds something else under the key of the fleet")
	}
	m.mu.Lock()
	known := m.memory.Made
	m.mu.Unlock()
	switch {
	case n.Fleet != m.set.Name:
		return refusal("give each fleet a prefix of its own (fleet.name), or correct fleet.name", "the store holds the fleet %.80q at this prefix, and this host belongs to %q", n.Fleet, m.set.Name)
	case json.Unmarshal(n.Value, &c) == nil && c.Made != "" && c.Made == known:
		at.made, at.unsigned = c.Made, true
		return nil
	}
	return refusal("add the signer's recipient to fleet.recipients if the store is yours; otherwise correct fleet.etcd.endpoints",
		"the store holds a fleet %q that host %.80q began, and this host does not trust its recipient %.80q", n.Fleet, n.Host, string(theirs.Signer))
}

// mayBegin refuses a store that has values but not this fleet's mark, unless it is the one that this host knows: then somebody has removed
// the mark.
func (m *Member) mayBegin(identity string) error {
	m.mu.Lock()
	known := m.memory.Cluster
	m.mu.Unlock()
	if known == "" || known == identity {
		return nil
	}
	for _, folder := range []string{"certificate", "account", "host"} {
		names, err := m.shared.List(folder)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return refusal("correct fleet.etcd.endpoints; if this is a new store of this fleet, remove what is below the prefix: it is filled again from the disks",
				"the store is another one than before, and holds values that are not marked as this fleet's")
		}
	}
	return nil
}

// twin refuses to take part if another host has this host's name and is at work.
func (m *Member) twin(ctx context.Context) error {
	place := m.hostPlace("alive")
	value, err := m.shared.Get(ctx, place)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var a alive
	_, signer, err := m.vault().readNote(value.Value, place, 0, &a)
	if err != nil {
		return nil //nolint:nilerr // garbage in the place of a lease says nothing about another host
	}
	if signer != m.recipient() {
		return refusal("give each host a name of its own (fleet.host)", "another host of the fleet has the name %q: its recipient is %.80q", m.set.Host, string(signer))
	}
	m.mu.Lock()
	ours := slices.Contains(m.memory.Sessions, a.Session) || a.Session == m.set.Session
	m.mu.Unlock()
	if !ours {
		return refusal("give each host a name and an identity of its own (fleet.host, fleet.identity); if this host was restored from a backup, wait three minutes",
			"another host with the name %q and the same identity is at work", m.set.Host)
	}
	return nil
}

// enter makes the first checks, and writes whose the store is if it is empty.
func (m *Member) enter(ctx context.Context) error {
	at, err := m.look(ctx)
	if err != nil {
		return err
	}
	if at.made == "" || at.unsigned {
		if err = m.begin(ctx, &at); err != nil {
			return err
		}
	}
	m.mu.Lock()
	before := m.memory.Cluster
	same := before == at.identity && m.memory.Made == at.made
	m.mu.Unlock()
	if !same {
		if before != "" {
			m.log.Warn("the store of the fleet is another one than before, new or from a backup; it gets from the disks what it lacks")
		}
		if err := m.remember(func(all *memory) bool {
			all.Cluster, all.Made, all.Met = at.identity, at.made, m.now().UTC().Truncate(time.Second)
			return true
		}); err != nil {
			return fmt.Errorf("remember the store of the fleet: %v", err) // it says nothing about the store that this host's disk is full
		}
	}
	m.mu.Lock()
	m.down, m.entered = nil, true
	m.mu.Unlock()
	return nil
}

// begin marks an empty store as this fleet's, or signs its mark anew, which hosts that join must be able to believe.
func (m *Member) begin(ctx context.Context, at *lookedAt) error {
	c := cluster{Made: at.made}
	if c.Made == "" {
		c.Made = random()
	}
	value, err := m.vault().note(clusterPlace, 1, m.now(), c)
	if err != nil {
		return err
	}
	_, err = m.shared.Swap(ctx, clusterPlace, at.revision, value)
	if errors.Is(err, state.ErrChanged) { // another host was faster
		return m.whose(ctx, at)
	}
	if err == nil {
		at.made = c.Made
	}
	return err
}

// signMark signs the mark of the store anew, before the recipient leaves that has signed it.
func (m *Member) signMark(ctx context.Context) error {
	return m.ask(ctx, func(ctx context.Context) error {
		m.mu.Lock()
		at := lookedAt{identity: m.memory.Cluster}
		m.mu.Unlock()
		if err := m.whose(ctx, &at); err != nil {
			return err
		}
		return m.begin(ctx, &at)
	})
}

func (m *Member) hostPlace(what string) string { return "host/" + m.set.Host + "/" + what }
