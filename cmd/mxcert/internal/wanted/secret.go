package wanted

import "mxcert/configs"

// secrets is where the values of secrets come from.
type secrets struct {
	kept    map[configs.Secret]string // read early, by their references
	explain func(configs.Secret, error) error
}

// read returns a secret's value: the one that was kept, or the one that is there now.
func (s *secrets) read(secret configs.Secret) (string, error) {
	if value, kept := s.kept[secret]; kept {
		return value, nil
	}
	value, err := secret.Read()
	if err != nil && s.explain != nil {
		err = s.explain(secret, err)
	}
	return value, err
}

// ExplainSecrets lets the caller replace the error about a secret that cannot be read, because it knows more about it. explain may be
// called concurrently.
func (h *Host) ExplainSecrets(explain func(secret configs.Secret, err error) error) {
	h.secrets.explain = explain
}

// KeepSecrets reads all secrets now, for a process that is about to lose the right to read them. A secret that cannot be read is left for
// later, when whoever needs it gets the error.
func (h *Host) KeepSecrets() {
	keep := func(secret configs.Secret) {
		if _, kept := h.secrets.kept[secret]; kept {
			return
		}
		if value, err := secret.Read(); err == nil {
			h.secrets.kept[secret] = value
		}
	}
	for _, c := range h.Certificates {
		for _, secret := range c.source.DNS.Env {
			keep(secret)
		}
		for _, zone := range c.source.DNS.Zones {
			for _, secret := range zone.Env {
				keep(secret)
			}
		}
		for _, secret := range publisherSecrets(c.source.DANE.Publisher) {
			keep(secret)
		}
	}
	for _, token := range ctTokens(h.ct) {
		keep(token)
	}
	for _, s := range channelSecrets(h.channels) {
		keep(s.secret)
	}
	for _, binding := range h.acme.EAB {
		keep(binding.HMACKey)
	}
	if h.Fleet != nil {
		keep(h.Fleet.source.Identity)
		h.Fleet.client.keep()
	}
}
