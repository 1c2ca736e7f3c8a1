package authority

import (
	"net/url"
	"testing"
)

// Every entry is found by its name and by its host, and its staging service is an entry too.
func TestTable(t *testing.T) {
	t.Parallel()
	if len(Names()) < 4 || Names()[0] != "letsencrypt" {
		t.Errorf("names %q", Names())
	}
	seen := map[string]bool{}
	for _, name := range Names() {
		directory, ok := Directory(name)
		u, err := url.Parse(directory)
		if !ok || err != nil || u.Scheme != "https" || seen[Name(directory)] {
			t.Errorf("%s: %q, %v, %v", name, directory, ok, err)
		}
		seen[Name(directory)] = true
		if found, ok := AtHost("https://" + u.Host + "/cert/7"); !ok || found != directory {
			t.Errorf("a certificate of %s is from %q", name, found)
		}
		if staging, ok := Staging(directory); ok {
			if again, known := AtHost(staging); !known || again != staging || staging == directory || !IsStaging(staging) || IsStaging(directory) {
				t.Errorf("the staging service of %s is %q", name, staging)
			}
		}
	}
	if _, ok := Staging("https://acme-v02.api.letsencrypt.org/directory"); !ok {
		t.Error("Let's Encrypt has a staging service")
	}
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "Letsencrypt", "https://ca.example/directory", "https://acme-v02.api.letsencrypt.org:8443/directory"} {
		_, named := Directory(text)
		_, hosted := AtHost(text)
		_, staged := Staging(text)
		if named || hosted || staged || IsStaging(text) {
			t.Errorf("%q is known: %v %v %v", text, named, hosted, staged)
		}
	}
}

func TestName(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://ca.example/directory": "ca.example", "https://127.0.0.1:14000/dir": "127.0.0.1:14000", "https://[::1]:1/": "[::1]:1",
		"ca.example": "ca.example", "": "", "https://%zz": "https://%zz",
	} {
		if got := Name(text); got != want {
			t.Errorf("%q is called %q, want %q", text, got, want)
		}
	}
}

func TestMostNames(t *testing.T) {
	t.Parallel()
	staging, _ := Directory("letsencrypt-staging")
	for _, tt := range []struct {
		directory, profile string
		want               int
	}{{"", "", 100}, {"https://ca.example/dir", "tlsserver", 100}, {staging, "", 100}, {staging, "tlsserver", 25}, {staging, "shortlived", 25}} {
		if got := MostNames(tt.directory, tt.profile); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}
