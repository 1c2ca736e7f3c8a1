package wanted

import "mxcert/configs"

// secrets holds values that were read early, by their references.
type secrets map[configs.Secret]string

// read returns a secret's value: the one that was kept, or the one that is there now.
func (s secrets) read(secret configs.Secret) (string, error) {
	if value, kept := s[secret]; kept {
		return value, nil
	}
	return secret.Read()
}

// KeepSecrets reads all secrets now, for a process that is about to lose the right to read them. A secret that cannot be read is left for
// later, when whoever needs it gets the error.
func (h *Host) KeepSecrets() {
	keep := func(secret configs.Secret) {
		if _, kept := h.secrets[secret]; kept {
			return
		}
		if value, err := secret.Read(); err == nil {
			h.secrets[secret] = value
		}
	}
	for _, c := range h.Certificates {
		for _, secret := range c.source.DNS.Env {
			keep(secret)
		}
	}
	for _, binding := range h.acme.EAB {
		keep(binding.HMACKey)
	}
}
