package cli

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/ct/sct"
	"mxcert/acme/finding"
	"mxcert/configs"
	"mxcert/deploy/survey"
)

// sctReport is an SCT in a certificate that an address shows.
type sctReport struct {
	Serial  string     `json:"serial"`
	LogID   string     `json:"log_id"`
	Log     string     `json:"log"` // its name in the log list; "" if that is not known
	At      *time.Time `json:"at"`
	Checked bool       `json:"checked"` // the signature could be checked
	Error   string     `json:"error"`   // why it does not count; "" if nothing speaks against it
}

// readLogs reads the log list of a configuration; nil if it has none, or none that can be used. Then no signature is checked.
func readLogs(config *configs.Config) sct.Logs {
	if config == nil || config.CT.LogList == "" {
		return nil
	}
	logs, err := sct.ReadLogs(config.CT.LogList)
	if err != nil {
		return nil // mxcert check says why
	}
	return logs
}

// sctsOf returns the SCTs of each certificate that an address shows.
func sctsOf(h survey.Host, logs sct.Logs, now time.Time) []sctReport {
	list, seen := []sctReport{}, map[string]bool{}
	for _, s := range h.Handshakes {
		if s.Shown == nil || len(s.Shown.Chain) == 0 || seen[string(s.Shown.Chain[0].Raw)] {
			continue
		}
		chain := s.Shown.Chain
		seen[string(chain[0].Raw)] = true
		found, err := sct.Embedded(chain[0])
		if err != nil && !errors.Is(err, sct.ErrNone) {
			list = append(list, sctReport{Serial: bundle.SerialOf(chain[0]), Error: finding.Quote(err.Error(), finding.MostQuoted)})
		}
		for _, one := range found {
			list = append(list, newSCTReport(one, chain, logs, now))
		}
	}
	return list
}

func newSCTReport(one sct.SCT, chain []*x509.Certificate, logs sct.Logs, now time.Time) sctReport {
	r := sctReport{Serial: bundle.SerialOf(chain[0]), LogID: one.LogID(), Log: finding.Quote(logs[one.Log].Name, 100), At: &one.At}
	if logs == nil || len(chain) < 2 { // the signature covers the issuer's key
		return r
	}
	err := one.Verify(chain[0], chain[1], logs, now)
	if r.Checked = !errors.Is(err, sct.ErrUnknownLog); err != nil {
		r.Error = finding.Line(err)
	}
	return r
}

// sctLines says which SCTs the certificates have.
func sctLines(list []sctReport) (lines []detail) {
	var serials []string
	for _, s := range list {
		if !slices.Contains(serials, s.Serial) {
			serials = append(serials, s.Serial)
		}
	}
	for _, serial := range serials {
		var good, words, faults []string
		for _, s := range list {
			if s.Serial != serial {
				continue
			}
			word := s.Log
			if word == "" {
				word = "log " + s.LogID
			}
			if s.At != nil {
				word += " at " + s.At.Format(time.RFC3339)
			}
			if s.Error != "" {
				fault := "does not count: "
				if s.At != nil && !s.Checked { // the log may be newer than the list
					fault = "cannot be checked: "
				}
				faults = append(faults, fault+s.Error)
				continue
			}
			if words = append(words, word); s.Checked {
				good = append(good, word)
			}
		}
		text := fmt.Sprintf("%d: %s", len(words), strings.Join(words, ", "))
		switch {
		case len(words) == 0:
			text = "none that is known to count"
		case len(good) == len(words):
			text += "; the signatures are good"
		case len(good) == 0:
			text += "; signatures not checked"
		}
		lines = append(lines, detail{"SCTs", text})
		for _, fault := range faults {
			lines = append(lines, detail{"SCTs", fault})
		}
	}
	return lines
}
