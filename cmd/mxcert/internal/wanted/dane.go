package wanted

import (
	"fmt"
	"path/filepath"
	"strings"

	"mxcert/configs"
	"mxcert/deploy/dane"
	"mxcert/deploy/dane/publish"
)

// programsOfTLSA is the directory below hooks.directory with the programs that publish records.
const programsOfTLSA = "tlsa.d"

// DANE returns what the configuration says about TLSA records.
func (c Certificate) DANE() dane.Settings {
	d := c.source.DANE
	s := dane.Settings{Mode: dane.Mode(d.Mode), Unset: d.Mode == "", Ports: d.Ports, Hold: d.Hold, KeyLifetime: d.KeyLifetime, Ignore: d.IgnoreServers, TTL: d.TTL}
	if s.Unset {
		s.Mode = dane.Check
	}
	return s
}

// Owners lists where the TLSA records of the certificate's host names are, at every port of dane.ports: the required names first, those that
// looks have found last. A wildcard is no host name.
func (c Certificate) Owners() []dane.Owner {
	var owners []dane.Owner
	for _, name := range c.Names {
		if strings.HasPrefix(name, "*.") {
			continue
		}
		for _, port := range c.source.DANE.Ports {
			owners = append(owners, dane.Owner{Host: name, Port: port})
		}
	}
	return owners
}

// Publisher returns the service that holds the records. It is nil if the configuration has none, which it may only if the mode is not
// publish; with another mode, the publisher takes back records that mxcert has published. It reads secrets, so an error may name one that
// cannot be read.
func (c Certificate) Publisher() (dane.Publisher, error) {
	p, path := c.source.DANE.Publisher, "dane.publisher."+c.source.DANE.Publisher.Kind
	switch p.Kind {
	case "hook":
		return publish.New(publish.Settings{Hook: &publish.Hook{Directory: filepath.Join(c.HookDirectory, programsOfTLSA), Timeout: c.HookTimeout}})
	case "powerdns":
		api, err := c.api(path+".key", p.PowerDNS.URL, p.PowerDNS.Key)
		return publisherOf(publish.Settings{PowerDNS: api}, err)
	case "desec":
		api, err := c.api(path+".token", p.DeSEC.URL, p.DeSEC.Token)
		return publisherOf(publish.Settings{DeSEC: api}, err)
	case "cloudflare":
		api, err := c.api(path+".token", p.Cloudflare.URL, p.Cloudflare.Token)
		return publisherOf(publish.Settings{Cloudflare: api}, err)
	}
	return c.updates()
}

// UpdatesTLSA reports whether the records are written by dynamic updates.
func (c Certificate) UpdatesTLSA() bool {
	return c.source.DANE.Publisher.Kind == rfc2136 || c.source.DANE.Publisher.Kind == ""
}

func publisherOf(s publish.Settings, err error) (dane.Publisher, error) {
	if err != nil {
		return nil, err
	}
	return publish.New(s)
}

// api reads the secret of an account at an HTTP API.
func (c Certificate) api(path, url string, secret configs.Secret) (*publish.API, error) {
	value, err := c.secrets.read(secret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &publish.API{URL: url, Secret: value}, nil
}

// publisherSecrets are the secrets of a publisher, by their settings.
func publisherSecrets(p configs.Publisher) map[string]configs.Secret {
	list := map[string]configs.Secret{"powerdns.key": p.PowerDNS.Key, "desec.token": p.DeSEC.Token, "cloudflare.token": p.Cloudflare.Token}
	for setting, secret := range list {
		if secret == "" {
			delete(list, setting)
		}
	}
	return list
}
