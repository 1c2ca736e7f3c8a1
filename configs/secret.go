package configs

// Secret is a value that must not be shown: a reference ("cred:NAME", "file:PATH", "env:NAME") or the literal value.
type Secret string

// Read returns the value.
func (s Secret) Read() (string, error) { return string(s), nil }
