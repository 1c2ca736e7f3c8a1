package ct

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"mxcert/acme/state"
)

// The bounds of what is remembered; the store takes a megabyte.
const (
	mostKnown   = 4000 // certificates in each list of known ones
	mostUnknown = 200
	mostPlaces  = 5000 // questions, and names
	mostBytes   = 900 << 10
	lineBytes   = 120 // of a usual line of a list, as it is stored
	// afterlife is how long an unknown certificate is told after it has expired.
	afterlife = 7 * 24 * time.Hour
)

// Memory is what is remembered between looks, in the state. The lists have one line for each thing, so that thousands stay small.
type Memory struct {
	Version int `json:"version"`
	// Learned has each name that was looked at to the end, and when that was first.
	Learned map[string]int64 `json:"learned_names,omitempty"`
	// Places has where the next page of each question begins, and when it was last asked: "CURSOR UNIX-TIME".
	Places map[string]string `json:"places,omitempty"`
	// Failing has since when a source gives no answer.
	Failing map[string]Failing `json:"failing,omitempty"`
	// Found has what was there at the first look, and Accepted what somebody has accepted: "SERIAL SPKI UNIX-TIME-OF-EXPIRY".
	Found    []string `json:"found,omitempty"`
	Accepted []string `json:"accepted,omitempty"`
	// Issued has our own, so that they are known after the state has pruned them, in the same form.
	Issued  []string  `json:"issued,omitempty"`
	Unknown []Unknown `json:"unknown,omitempty"`
	Dropped int       `json:"dropped,omitempty"` // unknown certificates for which there was no room
}

// Unknown is a certificate that is not ours and was not there at the first look.
type Unknown struct {
	Entry
	Seen time.Time `json:"seen"` // when mxcert found it
}

// Failing is a source that gives no answer.
type Failing struct {
	Since time.Time `json:"since"`
	Text  string    `json:"text"`
	Token bool      `json:"token,omitempty"` // the source refuses the token
}

// Read reads what is remembered. Nothing is a new Memory. If it is damaged, the result is new, and the error says so.
func Read(book *state.Book) (*Memory, error) {
	m := &Memory{}
	err := book.Remembered(state.Transparency, m)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		m = &Memory{}
	}
	m.clean()
	return m, err
}

// Update reads what is remembered, changes it, and stores it if that made a difference, while no other process does. The result is changed
// also if it could not be stored.
func Update(ctx context.Context, book *state.Book, change func(*Memory)) (*Memory, error) {
	release, err := book.Hold(ctx, state.Transparency)
	if err != nil {
		m, _ := Read(book)
		change(m)
		return m, err
	}
	defer release()
	m, err := Read(book)
	if err != nil {
		if aside, _ := book.SetAside(state.Transparency); aside == "" && !errors.Is(err, state.ErrDamaged) {
			change(m)
			return m, err
		} else if aside != "" {
			err = fmt.Errorf("%w; it is kept as %s", err, aside)
		}
	}
	before, _ := json.Marshal(m) // plain values: it cannot fail
	change(m)
	if after, _ := json.Marshal(m); err == nil && bytes.Equal(before, after) {
		return m, nil
	}
	return m, errors.Join(err, m.Store(book))
}

// Store stores it, without what it has no room for.
func (m *Memory) Store(book *state.Book) error {
	m.Version = state.Version
	m.fit()
	return book.Remember(state.Transparency, m)
}

// fit drops what is known until the state reads the memory back: it would count a larger one as damaged, and the watch would learn anew and forget
// what is unknown. What somebody has accepted goes last. Of a list, those go that expire first.
func (m *Memory) fit() {
	for over := m.over(); over > 0; over = m.over() {
		list := &m.Found
		if len(m.Issued) > len(m.Found) {
			list = &m.Issued
		}
		if len(*list) == 0 {
			list = &m.Accepted
		}
		if len(*list) == 0 {
			break
		}
		*list = latest(*list, len(*list)-min(over/lineBytes, len(*list)/10)-1) // the other one may then be longer
	}
	if m.over() > 0 { // of names
		for i := range m.Unknown {
			m.Unknown[i].Names = m.Unknown[i].Names[:min(len(m.Unknown[i].Names), fewNames)]
		}
	}
}

// over returns how many bytes more than the limit the state would write.
func (m *Memory) over() int {
	text, _ := json.MarshalIndent(m, "", "  ") // plain values: it cannot fail
	return len(text) - mostBytes
}

// clean makes the maps, and bounds what somebody else may have written.
func (m *Memory) clean() {
	if m.Places == nil || len(m.Places) > mostPlaces {
		m.Places = map[string]string{}
	}
	if m.Learned == nil || len(m.Learned) > mostPlaces {
		m.Learned = map[string]int64{}
	}
	if m.Failing == nil || len(m.Failing) > 10 {
		m.Failing = map[string]Failing{}
	}
	m.Unknown = m.Unknown[:min(len(m.Unknown), mostUnknown)]
	for i := range m.Unknown {
		m.Unknown[i].Names = m.Unknown[i].Names[:min(len(m.Unknown[i].Names), mostNames)]
	}
}

// place is where the next page of a question begins, and when it was asked.
type place struct {
	cursor string
	asked  time.Time
}

func (m *Memory) place(key string) (p place) {
	cursor, unix, _ := strings.Cut(m.Places[key], " ")
	p.cursor = cursor
	if n, err := strconv.ParseInt(unix, 10, 64); err == nil && n > 0 {
		p.asked = time.Unix(n, 0)
	}
	return p
}

func (m *Memory) setPlace(key string, p place) {
	m.Places[key] = fmt.Sprintf("%s %d", p.cursor, p.asked.Unix())
}

// keep forgets places of questions that are no longer asked, and names that are no longer ours, and what has expired.
func (m *Memory) keep(places map[string]bool, names Names, now time.Time) {
	maps.DeleteFunc(m.Places, func(key, _ string) bool { return !places[key] })
	maps.DeleteFunc(m.Learned, func(name string, _ int64) bool { return len(names[name]) == 0 })
	for _, list := range []*[]string{&m.Found, &m.Accepted, &m.Issued} {
		*list = prune(*list, now)
	}
	m.Unknown = slices.DeleteFunc(m.Unknown, func(u Unknown) bool { return now.After(u.NotAfter.Add(afterlife)) })
}

// line is an entry of the lists.
func line(e Entry) string {
	return fmt.Sprintf("%s %s %d", cmp.Or(e.Serial, "-"), cmp.Or(e.SPKI, "-"), e.NotAfter.Unix())
}

// parseLine reads it.
func parseLine(text string) (serial, spki string, until time.Time) {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return "", "", time.Time{}
	}
	unix, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return "", "", time.Time{}
	}
	return strings.TrimPrefix(fields[0], "-"), strings.TrimPrefix(fields[1], "-"), time.Unix(unix, 0)
}

// prune drops what has expired, and of too many those that expire first.
func prune(list []string, now time.Time) []string {
	return latest(unexpired(list, now), mostKnown)
}

func unexpired(list []string, now time.Time) []string {
	return slices.DeleteFunc(list, func(text string) bool {
		_, _, until := parseLine(text)
		return now.After(until.Add(afterlife))
	})
}

// latest keeps of too many those that expire last.
func latest(list []string, most int) []string {
	if len(list) <= most {
		return list
	}
	slices.SortFunc(list, func(a, b string) int {
		_, _, x := parseLine(a)
		_, _, y := parseLine(b)
		return y.Compare(x)
	})
	return list[:most]
}
