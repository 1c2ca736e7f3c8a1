package mailhost

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"
)

// Where the authority is, and what it leaves in the host's file tree.
const (
	DirectoryURL  = "https://127.0.0.1:14000/dir"
	ManagementURL = "https://127.0.0.1:15000" // Pebble's own: /roots/0, /cert-status-by-serial/…
	CAFile        = "/etc/pebble/ca.pem"      // trusts the authority's HTTPS
	RootsFile     = "/etc/pebble/roots.pem"   // the root of what it issues; a new one at each start
)

// StartPebble starts the authority, or starts it anew: Pebble keeps accounts, orders and its own keys in memory, so a
// new start forgets everything. Certificates are valid for the given time. It returns when the directory is
// served and RootsFile is written. `systemctl stop pebble` inside the host stops it.
func (h *Host) StartPebble(ctx context.Context, validity time.Duration) error {
	return h.StartPebbleWith(ctx, validity, nil)
}

// StartPebbleWith does the same with more settings of Pebble's configuration.
func (h *Host) StartPebbleWith(ctx context.Context, validity time.Duration, more map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute) // the first build on a machine compiles Pebble
	defer cancel()
	if _, err := h.Stat(CAFile); err != nil {
		if err := h.installPebble(ctx); err != nil {
			return fmt.Errorf("install Pebble: %w", err)
		}
	}
	settings := map[string]any{
		"listenAddress":           "127.0.0.1:14000",
		"managementListenAddress": "127.0.0.1:15000",
		"certificate":             CAFile,
		"privateKey":              "/etc/pebble/pebble.key",
		"keyAlgorithm":            "ecdsa",
		"retryAfter":              map[string]int{"authz": 1, "order": 1},
		// One profile: of several Pebble picks one at random for an order that names none.
		"profiles": map[string]any{"default": map[string]any{"description": "default", "validityPeriod": int(validity.Seconds())}},
	}
	maps.Copy(settings, more)
	text, err := json.Marshal(map[string]any{"pebble": settings})
	if err != nil {
		return err
	}
	if err := h.Put("/etc/pebble/pebble.json", text, 0o644); err != nil {
		return err
	}
	if _, err := h.Must(ctx, "systemctl", "restart", "pebble.service"); err != nil {
		return fmt.Errorf("%w\n%s", err, h.Diagnose())
	}
	root, err := h.awaitPebble(ctx)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, h.Diagnose())
	}
	return h.Put(RootsFile, root, 0o644)
}

func (h *Host) installPebble(ctx context.Context) error {
	program, err := Build(ctx, "github.com/letsencrypt/pebble/v2/cmd/pebble")
	if err != nil {
		return err
	}
	pair, err := selfSigned("pebble")
	return errors.Join(err,
		h.Put("/usr/local/bin/pebble", program, 0o755),
		h.Put("/etc/pebble/pebble.key", pair.key, 0o600),
		h.Put(CAFile, pair.certificate, 0o644))
}

// awaitPebble waits for the directory and returns the root certificate.
func (h *Host) awaitPebble(ctx context.Context) ([]byte, error) {
	client, err := h.HTTPClient(CAFile)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	for {
		if _, err = fetch(ctx, client, DirectoryURL); err == nil {
			root, err2 := fetch(ctx, client, ManagementURL+"/roots/0")
			if err = err2; err == nil {
				return root, nil
			}
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return nil, fmt.Errorf("pebble serves no directory: %w", err)
		}
	}
}

// HTTPClient makes a client that connects from inside the host and trusts the certificates of a file of the host.
// URLs must have a number for their host.
func (h *Host) HTTPClient(caFile string) (*http.Client, error) {
	pemText, err := h.Get(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pemText) {
		return nil, fmt.Errorf("no certificate in %s", caFile)
	}
	return &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{DialContext: h.Dial, TLSClientConfig: &tls.Config{RootCAs: roots}},
	}, nil
}

func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
}
