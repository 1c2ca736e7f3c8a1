package unit

import (
	"maps"
	"testing"
)

// What systemd hands to a unit is found by name, with the setting that another unit would need for the same. Values are not shown.
func TestCredentials(t *testing.T) {
	type source struct{ ID, Path string }
	type value struct {
		ID   string
		Data []byte
	}
	address, _ := startBus(t)
	startSystemdWith(t, address, map[string]map[string]any{
		Service: {
			"LoadCredential":          []source{{"plain", "/etc/plain"}},
			"LoadCredentialEncrypted": []source{{"tsig", "/etc/credstore.encrypted/mxcert.tsig"}},
			"SetCredential":           []value{{"set", []byte("c2VjcmV0")}},
			"ImportCredential":        []string{"mxcert.*"},
		},
		"plain.service": {"LoadState": "loaded"},
	})
	got, err := Credentials(t.Context(), Service)
	want := map[string]string{"plain": "LoadCredential=plain:/etc/plain", "tsig": "LoadCredentialEncrypted=tsig:/etc/credstore.encrypted/mxcert.tsig", "set": "SetCredential=set"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if got, err := Credentials(t.Context(), "plain.service"); err != nil || len(got) != 0 {
		t.Errorf("a unit without credentials: %q, %v", got, err)
	}
	if _, err := Credentials(t.Context(), "none.service"); err == nil {
		t.Error("a unit that systemd does not know")
	}
}
