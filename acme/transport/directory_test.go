package transport

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"
)

// directories are documents that came or may come.
func directories() []string {
	return []string{
		"null", "[]", "7", "{}", "", `{"newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o"}`,
		`{"newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o","meta":null,"revokeCert":null,"keyChange":7,"renewalInfo":[]}`,
		`{"newNonce":"n","newAccount":"a","newOrder":"o","meta":{"profiles":{"a":"b","c":7,"":null,"\u001b[31m":"\u202e"},"caaIdentities":["CA.example",7,null,""],"termsOfService":{},"externalAccountRequired":"yes"}}`,
		`{"newNonce":"n","newAccount":"a","newOrder":"o","meta":{"profiles":["a"],"caaIdentities":"x","termsOfService":"https://ca/t","externalAccountRequired":true,"website":"w"}}`,
	}
}

// TestDirectoryDocument: odd values of what nothing depends on are left out.
func TestDirectoryDocument(t *testing.T) {
	var document directoryDocument
	if err := json.Unmarshal([]byte(directories()[7]), &document); err != nil {
		t.Fatal(err)
	}
	d, err := document.read()
	if err != nil || len(d.Profiles) != 4 || d.Profiles["a"] != "b" || strings.Join(d.CAAIdentities, " ") != "ca.example" || d.Terms != "" || d.EABRequired {
		t.Errorf("%+v, %v", d, err)
	}
	many := map[string]string{}
	for i := range 1000 {
		many[fmt.Sprint(i)] = strings.Repeat("x", 1000)
	}
	text, err := json.Marshal(map[string]any{"newNonce": "n", "newAccount": "a", "newOrder": "o", "meta": map[string]any{"profiles": many}})
	if err != nil {
		t.Fatal(err)
	}
	document = directoryDocument{}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	if d, err := document.read(); err != nil || len(d.Profiles) != mostMeta || len(d.Profiles["1"]) > 400 {
		t.Errorf("%d profiles, %v", len(d.Profiles), err)
	}
}

// FuzzDirectory: what is taken over is short and harmless.
func FuzzDirectory(f *testing.F) {
	for _, text := range directories() {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		cache := directoryCache{}
		cache.store(body)
		var document directoryDocument
		if json.Unmarshal(body, &document) != nil {
			return
		}
		d, err := document.read()
		if err != nil {
			return
		}
		texts := append([]string{d.Terms}, d.CAAIdentities...)
		for name, description := range d.Profiles {
			texts = append(texts, name, description)
		}
		for _, text := range texts {
			if len(text) > 310 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%+q", text)
			}
		}
	})
}
