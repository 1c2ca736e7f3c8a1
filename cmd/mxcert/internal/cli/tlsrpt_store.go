package cli

import (
	"bytes"
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
// nothing else, and needs no configuration. What is no report is refused, so that the mail server returns it. If it cannot be stored, the mail
// server tries again (exit code 75).
//
// The name comes from the content, so a mail that comes twice is stored once. The group of the directory may read the file: a file in a
// directory with the set-group-ID bit belongs to that group.
func storeReport(in io.Reader, inputs []string, directory string) error {
	if len(inputs) > 1 || len(inputs) == 1 && inputs[0] != "-" {
		return report.Usage("--into stores standard input: leave out %s", inputs[0])
	}
	mail, err := io.ReadAll(io.LimitReader(in, mostStored+1))
	switch {
	case err != nil:
		return temporary("read standard input", err)
	case len(mail) > mostStored:
		return fmt.Errorf("the mail is larger than %d MiB: no report is", mostStored>>20)
	}
	if _, err := tlsrpt.Read(bytes.NewReader(mail)); err != nil {
		return fmt.Errorf("the mail is not stored: %w", err)
	}
	sum := sha256.Sum256(mail)
	return store(mail, directory, hex.EncodeToString(sum[:12]))
}

// store writes a file that is complete when it appears under its name.
func store(mail []byte, directory, name string) error {
	file, err := os.CreateTemp(directory, ".new-")
	if err != nil {
		return temporary("store the report", err)
	}
	_, err = file.Write(mail)
	if err == nil {
		err = file.Chmod(0o640) // the umask may have taken the group's right
	}
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(directory, name))
	}
	if err != nil {
		return temporary("store the report", errors.Join(err, os.Remove(file.Name())))
	}
	return nil
}

// temporary is an error after which the mail server tries again.
func temporary(what string, err error) error {
	return &report.Exit{Code: report.CodeTemporary, Err: fmt.Errorf("%s: %w", what, err)}
}
