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
	case errTarget == nil && !target.Mode().IsRegular() && target.Mode().Type() != fs.ModeSymlink:
		p.Message, p.Hint = fmt.Sprintf("report.html: %s is a device, a pipe or a socket, which mxcert does not replace", page), "name a file"
	default:
		return nil
	}
	return []configs.Problem{p}
}

// ReportProblems finds out early whether the reports of senders (tlsrpt.directory) have a place. It is no fault of the configuration: the
// directory may be made later.
func ReportProblems(config *configs.Config) []configs.Problem {
	directory := config.TLSRPT.Directory
	if directory == "" {
		return nil
	}
	p := config.At("tlsrpt.directory")
	switch info, err := os.Stat(directory); {
	case errors.Is(err, fs.ErrNotExist):
		p.Message, p.Hint = fmt.Sprintf("tlsrpt.directory: the directory %s does not exist", directory), "make it, and let the mail server write there: see mxcert-tlsrpt(7)"
	case err != nil || info.IsDir():
		return nil
	default:
		p.Message, p.Hint = fmt.Sprintf("tlsrpt.directory: %s is not a directory", directory), "name the directory into which the mail server puts the mails: see mxcert-tlsrpt(7)"
	}
	return []configs.Problem{p}
}
