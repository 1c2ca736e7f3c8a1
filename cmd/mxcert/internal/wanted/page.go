package wanted

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mxcert/configs"
)

// PageProblems finds out early whether the page (report.html) cannot be written. It is no fault of the configuration: passes work without
// the page.
func PageProblems(config *configs.Config) []configs.Problem {
	page := config.Report.HTML
	if page == "" {
		return nil
	}
	directory := filepath.Dir(page)
	p := config.At("report.html")
	info, err := os.Stat(directory)
	target, errTarget := os.Lstat(page)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Message, p.Hint = fmt.Sprintf("report.html: the directory %s does not exist", directory), "make it, and let the service write there: see THE PAGE in mxcert.service(8)"
	case err != nil:
		return nil // this user may not look there; the service may
	case !info.IsDir():
		p.Message, p.Hint = fmt.Sprintf("report.html: %s is not a directory", directory), "name a file in a directory"
	case errTarget == nil && target.IsDir():
		p.Message, p.Hint = fmt.Sprintf("report.html: %s is a directory, but the page is one file", page), "name a file in it, such as "+filepath.Join(page, "index.html")
	default:
		return nil
	}
	return []configs.Problem{p}
}
