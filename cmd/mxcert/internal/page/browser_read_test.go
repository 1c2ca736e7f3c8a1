package page_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"

	"mxcert/cmd/mxcert/internal/page"
)

// spoken is what a screen reader gets of a part of a page.
type spoken struct{ role, name, description string }

// listen returns the parts of the page that is shown, in the order of reading.
func (b *browser) listen(t *testing.T) (list []spoken) {
	t.Helper()
	tree, err := chromedp.Call(b.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[accessibility.NodeID]*accessibility.Node{}
	for _, n := range tree.Nodes {
		nodes[n.NodeID] = n
	}
	text := func(v *accessibility.Value) (s string) {
		if v != nil {
			_ = json.Unmarshal(v.Value, &s)
		}
		return s
	}
	var visit func(n *accessibility.Node)
	visit = func(n *accessibility.Node) {
		if !n.Ignored {
			list = append(list, spoken{text(n.Role), text(n.Name), text(n.Description)})
		}
		for _, id := range n.ChildIDs {
			if child := nodes[id]; child != nil {
				visit(child)
			}
		}
	}
	visit(tree.Nodes[0])
	return list
}

// read checks what a screen reader gets of the page that is shown.
func (b *browser) read(t *testing.T, name string, s page.Sight) {
	t.Helper()
	list := b.listen(t)
	count := map[string]int{}
	for _, part := range list {
		count[part.role]++
		switch part.role {
		case "image", "img":
			if !strings.HasPrefix(part.name, "Life of the ") || !strings.Contains(part.name+part.description, "From ") {
				t.Errorf("%s: a bar is read as %q, %q", name, part.name, part.description)
			}
		case "table", "heading", "columnheader", "rowheader", "region", "article":
			if part.name == "" {
				t.Errorf("%s: a %s has no name", name, part.role)
			}
		}
	}
	bars := 0
	for _, c := range s.Certificates {
		bars += len(c.Report.Keys)
	}
	if got := count["image"] + count["img"]; got != bars {
		t.Errorf("%s: a screen reader finds %d bars, want %d", name, got, bars)
	}
	for _, landmark := range []string{"banner", "main", "contentinfo"} {
		if count[landmark] != 1 {
			t.Errorf("%s: a screen reader finds %d of %s: %v", name, count[landmark], landmark, count)
		}
	}
	if count["table"] == 0 || count["columnheader"] < 3 || count["rowheader"] < min(len(s.Certificates), 1) {
		t.Errorf("%s: a screen reader finds %v", name, count)
	}
	order := []string{"All is well", "Certificates", "What comes next", "Details", "What happened last"}
	if len(s.Alarms) > 0 {
		order = slices.Insert(order, 1, "What needs attention")
		order[0] = ""
	}
	at := 0
	for _, part := range list {
		if part.role == "heading" && at < len(order) && strings.HasSuffix(part.name, order[at]) {
			at++
		}
	}
	if at < len(order) {
		t.Errorf("%s: no heading %q after the others", name, order[at])
	}
}

// picture keeps a picture of what is shown, if MXCERT_PICTURES names a directory; and what comes out of a printer.
func (b *browser) picture(t *testing.T, name string, l look) {
	t.Helper()
	directory := os.Getenv("MXCERT_PICTURES")
	if directory == "" || name == "many" { // Chromium takes no picture of more than 16,384 px
		return
	}
	shot, file := chromedp.FullScreenshot(100), name+"-"+l.String()+".png"
	if l.media == "print" {
		shot, file = chromedp.PrintToPDF(chromedp.PDFPaper(chromedp.PaperA4)), name+"-"+l.String()+".pdf"
	}
	got, err := chromedp.Run(b.ctx, shot)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, file), got, 0o600); err != nil {
		t.Fatal(err)
	}
}
