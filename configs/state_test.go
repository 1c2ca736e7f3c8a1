package configs

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// The state directory is found in texts that are no configuration, and the answer says if only a whole configuration could tell.
func TestStateOfFiles(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		path string
		sure bool
	}{
		"acme: {}\n":                          {defaultState, true},
		"state: /srv/mxcert\nacme: [\n":       {"/srv/mxcert", true},
		"state: \"/srv/mxcert\" # here\n":     {"/srv/mxcert", true},
		"# state: /srv/other\nacme: {}\n":     {defaultState, true},
		"{state: /srv/mxcert, acme: {}}\n":    {defaultState, false},
		"'state': '/srv/mxcert'\nacme: {}\n":  {defaultState, false},
		"state: '/srv/mxcert'\nacme: {}\n":    {defaultState, false},
		"certificates: [{name: estate: x}]\n": {defaultState, true},
	} {
		file := filepath.Join(t.TempDir(), "mxcert.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if path, sure := Read(file).State(); path != want.path || sure != want.sure {
			t.Errorf("%q: %s, %v", text, path, sure)
		}
	}
	if _, sure := Read(filepath.Join(t.TempDir(), "missing.yaml")).State(); sure {
		t.Error("a missing file is sure")
	}
	c := &Config{}
	setDefaults(reflect.ValueOf(c).Elem())
	if c.State != defaultState {
		t.Errorf("the default is %s", c.State)
	}
}
