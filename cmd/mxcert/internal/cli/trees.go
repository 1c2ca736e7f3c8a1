package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"mxcert/cmd/mxcert/internal/adopt"
	"mxcert/cmd/mxcert/internal/report"
)

// treesReport is `import --json` without a client.
type treesReport struct {
	importReport
	Found []treeReport `json:"found"`
}

// treeReport is one tree of another client in its usual place.
type treeReport struct {
	Client       string        `json:"client"`
	Path         string        `json:"path"`
	Certificates []string      `json:"certificates"` // by the names that the client gives them
	Error        *report.Error `json:"error"`        // why the tree cannot be read
}

// listTrees prints which trees of other clients are in their usual places.
func (a *app) listTrees() error {
	r := treesReport{importReport: importReport{Imported: []adopt.Taken{}}, Found: []treeReport{}}
	for _, client := range adopt.Clients() {
		tree := treeReport{Client: client, Path: adopt.UsualPath(client), Certificates: []string{}}
		found, err := adopt.Read(client, tree.Path, "")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		for _, f := range found {
			tree.Certificates = append(tree.Certificates, f.Name)
		}
		if err != nil {
			tree.Error = report.NewError(err)
		}
		r.Found = append(r.Found, tree)
	}
	return a.finish(answer{document: r, print: func(out sheet) { printTrees(out, r.Found) }})
}

func printTrees(out sheet, found []treeReport) {
	if len(found) == 0 {
		out.text(2, "no tree of %s is in its usual place; mxcert import CLIENT PATH reads another place", strings.Join(adopt.Clients(), ", "))
	}
	for _, tree := range found {
		fmt.Fprintf(out, "%s in %s\n", tree.Client, tree.Path)
		if tree.Error != nil {
			out.line("error", "%s", tree.Error.Message)
			out.line("next step", "%s", tree.Error.Hint)
			continue
		}
		out.line("certificates", "%s", strings.Join(tree.Certificates, ", "))
		out.line("next step", "look at what mxcert would take over: `mxcert import %s --dry-run`", tree.Client)
	}
}
