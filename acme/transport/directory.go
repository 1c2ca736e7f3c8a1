package transport

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"mxcert/acme/finding"
)

const (
	// mostMeta limits the profiles and CAA identities that are taken over from a directory.
	mostMeta = 100
	// mostWord limits the name of a profile, in bytes.
	mostWord = 60
)

// Directory is what a CA says about itself (RFC 8555 section 7.1.1; profiles: draft-ietf-acme-profiles). Texts of the
// CA are short and without control characters.
type Directory struct {
	URL           string            // of the directory itself
	Profiles      map[string]string // name → description; empty if the CA has no profiles
	CAAIdentities []string          // domains that CAA records name for this CA (RFC 8659), lower case
	Terms         string            // URL of the terms of service; "" if there are none
	RenewalInfo   string            // URL of the renewal information (RFC 9773); "" if the CA offers none
	EABRequired   bool              // a new account needs External Account Binding (section 7.3.4)
	ClockSkew     time.Duration     // this host's clock minus the CA's at its last answer; a second is noise
}

// Directory returns the CA's directory, from memory if it was fetched within the last hour.
func (o *Operation) Directory() (Directory, error) {
	var document directoryDocument
	if _, err := o.Get(o.pool.settings.Directory, &document); err != nil {
		return Directory{}, err
	}
	directory, err := document.read()
	if err != nil {
		return Directory{}, err
	}
	directory.URL, directory.ClockSkew = o.pool.settings.Directory, o.pool.cache.lastSkew()
	return directory, nil
}

// directoryDocument is the directory as the CA writes it. Optional fields may have any type.
type directoryDocument struct {
	NewNonce    string          `json:"newNonce"`
	NewAccount  string          `json:"newAccount"`
	NewOrder    string          `json:"newOrder"`
	RenewalInfo json.RawMessage `json:"renewalInfo"`
	Meta        json.RawMessage `json:"meta"`
}

// read checks the document and takes over what has the right type.
func (d *directoryDocument) read() (Directory, error) {
	if d.NewNonce == "" || d.NewAccount == "" || d.NewOrder == "" {
		return Directory{}, errors.New("the directory lacks newNonce, newAccount or newOrder")
	}
	out := Directory{Profiles: map[string]string{}}
	take(d.RenewalInfo, &out.RenewalInfo)
	var meta map[string]json.RawMessage
	take(d.Meta, &meta)
	take(meta["termsOfService"], &out.Terms)
	take(meta["externalAccountRequired"], &out.EABRequired)
	out.Terms = quote(out.Terms)
	var identities []json.RawMessage
	take(meta["caaIdentities"], &identities)
	for _, raw := range identities[:min(len(identities), mostMeta)] {
		var identity string
		if take(raw, &identity); identity != "" {
			out.CAAIdentities = append(out.CAAIdentities, quote(strings.ToLower(identity)))
		}
	}
	var profiles map[string]json.RawMessage
	take(meta["profiles"], &profiles)
	for name, raw := range profiles {
		var description string
		if take(raw, &description); len(out.Profiles) < mostMeta {
			out.Profiles[finding.Quote(name, mostWord)] = quote(description)
		}
	}
	return out, nil
}

// Knows reports whether the directory offers the profile; "" is the CA's default.
func (d Directory) Knows(profile string) bool {
	_, ok := d.Profiles[profile]
	return ok || profile == ""
}

func quote(text string) string { return finding.Quote(text, finding.MostQuoted) }
