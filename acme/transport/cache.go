package transport

import (
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"time"
)

const directoryLife = time.Hour

// directoryCache keeps the CA's directory for an hour (RFC 8555 section 7.1.1 allows caching).
type directoryCache struct {
	mu      sync.Mutex
	body    []byte
	fetched time.Time
	hosts   map[string]bool
	skew    time.Duration // this host's clock minus the CA's at its last answer
}

func (d *directoryCache) load() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.fetched) > directoryLife {
		return nil
	}
	return d.body
}

// store remembers the directory and the hosts that it names.
func (d *directoryCache) store(body []byte) {
	var entries map[string]any
	if json.Unmarshal(body, &entries) != nil {
		return
	}
	for _, needed := range []string{"newNonce", "newAccount", "newOrder"} {
		if _, ok := entries[needed].(string); !ok {
			return // do not keep a useless directory for an hour
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.body, d.fetched, d.hosts = body, time.Now(), map[string]bool{}
	for _, v := range entries {
		if text, ok := v.(string); ok {
			if u, err := url.Parse(text); err == nil {
				d.hosts[hostPort(u.Host)] = true
			}
		}
	}
}

// names reports whether the directory names this host and port.
func (d *directoryCache) names(host string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hosts[hostPort(host)]
}

// hostPort returns the form in which hosts are compared (RFC 3986 section 6.2).
func hostPort(host string) string { return strings.TrimSuffix(strings.ToLower(host), ":443") }

func (d *directoryCache) noteSkew(skew time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.skew = skew
}

func (d *directoryCache) lastSkew() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.skew
}
