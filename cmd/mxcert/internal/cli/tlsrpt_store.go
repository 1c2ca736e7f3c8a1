package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/tlsrpt"
)

// mostStored limits a mail that is stored, in bytes. Mail servers take less by default.
const mostStored = 32 << 20

// storeReport stores the mail on standard input in a directory, for the daemon to read. It runs as a user of the mail server, who can do
// nothing else, and needs no configuration. If the mail cannot be stored, the mail server tries again (exit code 75).
//
// A mail without a report, and one that is too large for one, are dropped, and a line on says tells so. To refuse them would be worse: the mail
// server has accepted them already, so it would send them back to a sender who may be forged. A report that cannot be read is stored, because
// a person may want to see it.
//
// The name comes from the content, so a mail that comes twice is stored once. The group of the directory may read the file: a file in a
// directory with the set-group-ID bit belongs to that group.
func storeReport(in io.Reader, says io.Writer, inputs []string, directory string) error {
	if len(inputs) > 1 || len(inputs) == 1 && inputs[0] != "-" {
		return report.Usage("--into stores standard input: leave out %s", inputs[0])
	}
	file, err := os.CreateTemp(directory, ".new-")
	if err != nil {
		return temporary(err)
	}
	dropped, err := storeIn(file, in, directory)
	if err = errors.Join(err, file.Close()); err != nil || dropped != nil {
		err = errors.Join(err, os.Remove(file.Name()))
	}
	if err != nil {
		return temporary(err)
	}
	if dropped != nil {
		_, _ = fmt.Fprintf(says, "the mail is not stored: %v\n", dropped) // Postfix has this line in its log
	}
	return nil
}

// storeIn copies a mail to a file, and gives the file its name when it is complete. If the mail is not worth that, dropped says why.
func storeIn(file *os.File, mail io.Reader, directory string) (dropped, err error) {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(file, sum), io.LimitReader(mail, mostStored+1))
	if err != nil {
		return nil, err
	}
	if n > mostStored {
		_, err = io.Copy(io.Discard, mail) // the mail server waits until all is read
		return fmt.Errorf("it is larger than %d MiB, which no report is", mostStored>>20), err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if _, err := tlsrpt.Read(file); errors.Is(err, tlsrpt.ErrNone) {
		return err, nil
	}
	if err := file.Chmod(0o640); err != nil { // the umask may have taken the group's right
		return nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, err
	}
	return nil, os.Rename(file.Name(), filepath.Join(directory, hex.EncodeToString(sum.Sum(nil)[:12])))
}

// temporary is an error after which the mail server tries again.
func temporary(err error) error {
	return &report.Exit{Code: report.CodeTemporary, Err: fmt.Errorf("store the report: %w", err)}
}
