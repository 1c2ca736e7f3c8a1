package acme

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

const (
	// directoryRequests is the budget for reading the directory.
	directoryRequests = 5
	// mostMeta bounds the profiles and CAA identities that are taken over from a directory.
	mostMeta = 100
)

// Directory is what a CA says about itself (RFC 8555 section 7.1.1; profiles: draft-ietf-acme-profiles). Texts of the
// CA are short and without control characters.
type Directory struct {
	URL           string            // of the directory itself
	NewNonce      string            // URLs of the CA's resources; "" where it has none
	NewAccount    string            //
	NewOrder      string            //
	RevokeCert    string            //
	KeyChange     string            //
	Profiles      map[string]string // name → description; empty where the CA has no profiles
	CAAIdentities []string          // domains that CAA records name for this CA (RFC 8659), lower case
	Terms         string            // URL of the terms of service; "" where there are none
	Website       string
	EABRequired   bool          // accounts need External Account Binding (section 7.3.4)
	RenewalInfo   bool          // the CA gives renewal information (RFC 9773)
	HasRevoke     bool          // the CA has a URL for revocation
	ClockSkew     time.Duration // this host's clock minus the CA's at its last answer; a second is noise

	renewalInfo string
}

// Directory gives the CA's directory, from memory where it was fetched within the last hour. Errors are *Error of the
// stage "directory", or the context's.
func (c *Client) Directory(ctx context.Context) (Directory, error) {
	t := c.newTransport(ctx, directoryRequests)
	o := &operation{client: c, transport: t}
	directory, err := c.readDirectory(ctx, t.httpClient())
	return directory, o.explain("directory", err)
}

// directoryDocument is the directory as the CA writes it. The fields that nothing depends on may have any type.
type directoryDocument struct {
	NewNonce    string          `json:"newNonce"`
	NewAccount  string          `json:"newAccount"`
	NewOrder    string          `json:"newOrder"`
	RevokeCert  json.RawMessage `json:"revokeCert"`
	KeyChange   json.RawMessage `json:"keyChange"`
	RenewalInfo json.RawMessage `json:"renewalInfo"`
	Meta        json.RawMessage `json:"meta"`
}

// readDirectory fetches the directory, or takes it from the cache.
func (c *Client) readDirectory(ctx context.Context, client *http.Client) (Directory, error) {
	var document directoryDocument
	if _, err := c.get(ctx, client, c.settings.Directory, &document); err != nil {
		return Directory{}, err
	}
	directory, err := document.read()
	if err != nil {
		return Directory{}, err
	}
	directory.URL, directory.ClockSkew = c.settings.Directory, c.directory.lastSkew()
	return directory, nil
}

// read checks the document and takes over what has the right type.
func (d *directoryDocument) read() (Directory, error) {
	if d.NewNonce == "" || d.NewAccount == "" || d.NewOrder == "" {
		return Directory{}, errors.New("the directory lacks newNonce, newAccount or newOrder")
	}
	out := Directory{NewNonce: d.NewNonce, NewAccount: d.NewAccount, NewOrder: d.NewOrder, Profiles: map[string]string{}}
	take(d.RevokeCert, &out.RevokeCert)
	take(d.KeyChange, &out.KeyChange)
	take(d.RenewalInfo, &out.renewalInfo)
	out.RenewalInfo, out.HasRevoke = out.renewalInfo != "", out.RevokeCert != ""
	var meta map[string]json.RawMessage
	take(d.Meta, &meta)
	take(meta["termsOfService"], &out.Terms)
	take(meta["website"], &out.Website)
	take(meta["externalAccountRequired"], &out.EABRequired)
	out.Terms, out.Website = quote(out.Terms), quote(out.Website)
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
			out.Profiles[quoteWord(name)] = quote(description)
		}
	}
	return out, nil
}

// Knows reports whether the directory offers the profile; "" is the CA's default.
func (d Directory) Knows(profile string) bool {
	_, ok := d.Profiles[profile]
	return ok || profile == ""
}
