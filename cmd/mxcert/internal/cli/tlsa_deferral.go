package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// deferral says for how long senders may defer mail if the key changes now.
type deferral struct {
	Until *time.Time `json:"until"` // null if nobody knows
	Why   []string   `json:"why"`
}

// deferral asks what is remembered; nil if the next keys may be served.
func (l *tlsaLook) deferral(fresh bool) *deferral {
	d, known, last := deferral{Why: []string{}}, true, time.Time{}
	at := map[string][]string{} // where, by why
	for i, owner := range l.Facts.Owners {
		for _, key := range l.Want.Keys {
			ok, until, why := l.ready(owner, l.nextOf(key, fresh))
			if err := l.Facts.Views[i].Err; ok && err != nil {
				ok, why = false, "the records could not be looked up"
			}
			if ok {
				continue
			}
			if name := owner.Name(); !slices.Contains(at[why], name) && !strings.Contains(why, name) {
				at[why] = append(at[why], name)
			} else if at[why] == nil {
				at[why] = []string{}
			}
			if known = known && !until.IsZero(); until.After(last) {
				last = until
			}
		}
	}
	if len(at) == 0 {
		return nil
	}
	for _, why := range slices.Sorted(maps.Keys(at)) {
		if owners := at[why]; len(owners) > 0 {
			why += " (" + strings.Join(owners, ", ") + ")"
		}
		d.Why = append(d.Why, why)
	}
	if known {
		last = last.UTC().Truncate(time.Second)
		d.Until = &last
	}
	return &d
}

// nextOf returns the next key of a type; "" if there is none, or if a third one is to be taken.
func (l *tlsaLook) nextOf(key bundle.KeyType, fresh bool) string {
	for _, k := range l.Facts.Next {
		used := slices.ContainsFunc(l.Facts.Current, func(c dane.KeyOf) bool { return c.SPKI == k.SPKI }) // after a change, until another is made
		if !fresh && k.Type == key && !used {
			return k.SPKI
		}
	}
	return ""
}

// ready reports whether senders have the record of a key. Those of a key that does not exist yet have none: they hold what they have for as
// long as that is held from now on.
func (l *tlsaLook) ready(owner dane.Owner, spki string) (ok bool, until time.Time, why string) {
	if spki != "" {
		return l.State.Memory.Ready(owner, spki, l.settings(), l.Facts.At)
	}
	longest := time.Duration(0)
	for _, set := range l.State.Memory.Held(owner, l.settings()) {
		if len(set.Records) > 0 {
			longest = max(longest, dane.Hold(set.TTL, l.settings()))
		}
	}
	if longest == 0 {
		return true, until, ""
	}
	return false, l.Facts.At.At.Add(longest), "senders hold records without the new key"
}

// confirmDeferral asks a person whether senders may defer mail. Without a terminal, and without --yes, nothing is done.
func (a *app) confirmDeferral(name string, d *deferral, o rollOptions) error {
	if o.yes {
		return nil
	}
	until := "until every server has had the record of the new key for long enough"
	if d.Until != nil {
		until = fmt.Sprintf("until %s (%s)", report.Minute(*d.Until), report.Until(*d.Until))
	}
	text := fmt.Sprintf("if the key of %s changes now, some DANE senders defer mail %s:\n  %s", name, until, strings.Join(d.Why, "\n  "))
	if !isTerminal(o.in) {
		return report.Usage("%s\nconfirm it with --yes, which also revokes the leaked certificates, or with --ignore-dane", text)
	}
	fmt.Fprintln(a.stderr, text)
	if !a.agrees(o.in, "They try again later. Change the key now?") {
		return errors.New("nothing was changed")
	}
	return nil
}

func isTerminal(in io.Reader) bool {
	file, ok := in.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// agrees asks a person a question; only yes is yes, and the end of the input is no.
func (a *app) agrees(in io.Reader, question string) bool {
	fmt.Fprint(a.stderr, question+" [y/N] ")
	answer, _ := bufio.NewReader(in).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
