package journal

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	systemd "github.com/coreos/go-systemd/v22/journal"
)

// The most bytes of an entry. Within them it fits into one datagram.
const (
	mostMessage = 16 << 10
	mostValue   = 4 << 10
	mostFields  = 32
	mostKey     = 64 // journald refuses longer names of fields
)

// entry is a record as the journal gets it.
type entry struct {
	message  string
	priority systemd.Priority
	fields   map[string]string
}

// newEntry makes an entry of a record. attrs are those of its logger.
func newEntry(r slog.Record, attrs []slog.Attr, prefix string) entry {
	attrs = attrs[:len(attrs):len(attrs)]
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, inGroup(prefix, []slog.Attr{a})...)
		return true
	})
	e := entry{priority: priority(r.Level), fields: map[string]string{"SYSLOG_IDENTIFIER": "mxcert", "SYSLOG_FACILITY": "3"}} // daemon, as lines have it
	var words sentence
	words.what = r.Message
	for _, a := range attrs {
		value := text(a.Value)
		if a.Key == Key {
			if id := IDs()[Event(value)]; id != "" {
				e.fields["MESSAGE_ID"] = id
				e.explain()
			}
			continue
		}
		value = printable(limit(value, mostMessage))
		words.add(a.Key, value)
		if name := fieldName(a.Key); len(e.fields) < mostFields || e.fields[name] != "" {
			e.fields[name] = limit(value, mostValue)
		}
	}
	e.message = limit(strings.ReplaceAll(printable(words.String()), "\n", "\n  "), mostMessage) // indented: a line of foreign text looks like none of ours
	return e
}

// explain makes sure that an entry has the fields that its explanation may show. Of a field that an entry lacks, journalctl -x shows the name.
func (e *entry) explain() {
	for _, name := range []string{"MXCERT_ERROR", "MXCERT_DETAIL", "MXCERT_HINT"} {
		if _, has := e.fields[name]; !has {
			e.fields[name] = ""
		}
	}
}

// inGroup puts the names of groups into the keys of attributes.
func inGroup(prefix string, attrs []slog.Attr) (list []slog.Attr) {
	for _, a := range attrs {
		a.Value = a.Value.Resolve()
		switch {
		case a.Equal(slog.Attr{}):
		case a.Value.Kind() == slog.KindGroup && a.Key == "":
			list = append(list, inGroup(prefix, a.Value.Group())...)
		case a.Value.Kind() == slog.KindGroup:
			list = append(list, inGroup(prefix+a.Key+".", a.Value.Group())...)
		default:
			a.Key = prefix + a.Key
			list = append(list, a)
		}
	}
	return list
}

// fieldName is the field of an attribute: MXCERT_NEXT_RENEWAL of next_renewal.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		if r = unicode.ToUpper(r); r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, key)
	name = "MXCERT_" + name
	return name[:min(len(name), mostKey)]
}

// text is the value of a field. Those of a list are separated by spaces.
func text(v slog.Value) string {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().UTC().Format(time.RFC3339)
	case slog.KindAny:
		switch value := v.Any().(type) {
		case []string:
			return strings.Join(value, " ")
		case error:
			return value.Error()
		case *time.Time:
			if value == nil {
				return ""
			}
			return value.UTC().Format(time.RFC3339)
		default:
			return fmt.Sprint(value)
		}
	}
	return v.String()
}

// sentence collects what an entry says to a person: "mx: pass failed: what (stage=order kind=ca-error) → what to do".
type sentence struct {
	about, what, detail, hint, stage string
	rest                             []string
}

// progress is the message of records whose stage and detail say it all.
const progress = "progress"

func (s *sentence) add(key, value string) {
	switch {
	case value == "" && key != "error" && key != "detail":
	case key == "certificate":
		s.about = value
	case key == "hint":
		s.hint = value
	case (key == "error" || key == "detail") && s.detail == "":
		s.detail = value
	case key == "stage" && s.what == progress:
		s.stage = value
	case len(s.rest) == mostFields:
	case strings.ContainsAny(value, " \"\n"):
		s.rest = append(s.rest, fmt.Sprintf("%s=%q", key, value))
	default:
		s.rest = append(s.rest, key+"="+value)
	}
}

func (s *sentence) String() string {
	what := s.what
	if s.what == progress && s.stage != "" {
		what = s.stage
	}
	out := what
	if s.about != "" {
		out = s.about + ": " + out
	}
	if s.detail != "" {
		out += ": " + s.detail
	}
	if len(s.rest) > 0 {
		out += " (" + strings.Join(s.rest, " ") + ")"
	}
	if s.hint != "" {
		out += " → " + s.hint
	}
	return out
}

// printable replaces what journalctl does not show. It keeps line ends and tabs.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, text)
}

// limit cuts a text between characters.
func limit(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most - len("…")
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
