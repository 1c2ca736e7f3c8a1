package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	mostTemplate = 64 << 10  // the size of a template's file, in bytes
	mostBody     = 256 << 10 // what a template may write
)

// CheckTemplate reads a template and tries it with a message. The error names the file and the line.
func CheckTemplate(path string) error {
	_, err := fromTemplate(path, sample().Clean())
	return err
}

// fromTemplate writes a message with a template in the syntax of package text/template, see [evaluate]. A body that begins with a brace or a bracket must be JSON, and is sent as such.
func fromTemplate(path string, m Message) (request, error) {
	text, err := readSmall(path, mostTemplate)
	if err != nil {
		return request{}, &Error{message: fmt.Sprintf("the template %s cannot be read: %v", path, err), kind: Setting, cause: sentinelOf(err), hint: "write the template there, readable by the user " + serviceUser}
	}
	out, err := evaluate(text, m)
	if err != nil {
		return request{}, templateError(path, err)
	}
	body := bytes.TrimSpace([]byte(out))
	switch {
	case len(body) == 0:
		return request{}, templateError(path, errors.New("it writes nothing"))
	case body[0] != '{' && body[0] != '[':
		return request{kind: "text/plain; charset=utf-8", body: body}, nil
	case !json.Valid(body):
		return request{}, templateError(path, errors.New("what it writes begins like JSON, but is none; write texts as {{json .Text}}, without quotation marks around it"))
	}
	return request{kind: "application/json", body: body}, nil
}

const serviceUser = "mxcert"

func templateError(path string, err error) error {
	return &Error{message: fmt.Sprintf("the template %s cannot be used: %s", path, without(strings.TrimPrefix(err.Error(), "template: "))), kind: Setting,
		hint: "mxcert-notify(7) has a template that works, and lists the fields"}
}

// readSmall reads a regular file of at most so many bytes, and does not wait for the writer of a pipe.
func readSmall(path string, most int) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", reasonOfPath(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.New("it is not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(text) > most {
		err = fmt.Errorf("it is larger than %d KiB", most>>10)
	}
	return string(text), err
}

// reasonOfPath returns the error of the system without the path, which the message already has.
func reasonOfPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// sentinelOf returns the sentinel of the file system that an error is about; nil for any other error.
func sentinelOf(err error) error {
	for _, sentinel := range []error{fs.ErrPermission, fs.ErrNotExist} {
		if errors.Is(err, sentinel) {
			return sentinel
		}
	}
	return nil
}

// encodedWord writes text for a header (RFC 2047).
func encodedWord(text string) string { return mime.QEncoding.Encode("utf-8", text) }

// sample is a message with which a template is tried.
func sample() Message {
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	return Message{Version: 1, Host: "mx.example.org", Event: Alarm, Subject: "mx.example.org: the certificate is not in service", Text: "What: \"the server\" shows <another> certificate & 'no' other\n", At: at,
		Matters: []Matter{{ID: "not-in-service", Severity: "error", Certificates: []string{"mx"}, Since: at, What: "the server shows another certificate", Senders: "certificate-expired", Next: "mxcert doctor"}}}
}
