package dnsprovider

import (
	_ "embed"
	"encoding/json"
)

//go:generate go run variables_gen.go

//go:embed variables.json
var descriptions []byte

// Description is what an operator has to know about a provider.
type Description struct {
	Name      string     `json:"name"`
	URL       string     `json:"url"`
	Variables []Variable `json:"variables"`
}

// Variable is one setting of a provider, for dns.env. NAME_FILE names a file with the value instead.
type Variable struct {
	Name     string `json:"name"`
	Meaning  string `json:"meaning"`
	Required bool   `json:"required"`
}

// Describe gives the description of a provider; the error is an *UnknownError.
func Describe(name string) (Description, error) {
	if err := Known(name); err != nil {
		return Description{}, err
	}
	if name == "dnsupdate" {
		name = "rfc2136"
	}
	var all map[string]Description
	if err := json.Unmarshal(descriptions, &all); err != nil {
		return Description{}, err
	}
	return all[name], nil
}
