package tlsrpt

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"

	"mxcert/acme/finding"
)

// letter is a mail that is being read.
type letter struct {
	parts   int
	reports []Report
	domain  string // that the header names, for a policy that does not
	sender  string // likewise
	zip     bool   // it has a zip file
	fault   error  // of the first attachment that cannot be read
}

// fromMail reads the reports in a mail. The media types are those of RFC 8460 section 5.3; some senders use those of any other file.
func fromMail(r io.Reader) ([]Report, error) {
	l := &letter{}
	err := l.mail(bufio.NewReader(&capped{r, mostMail}), 0)
	switch {
	case err != nil && len(l.reports) == 0:
		return nil, err
	case len(l.reports) > 0:
		return l.reports, nil
	case l.fault != nil:
		return nil, l.fault
	case l.zip:
		return nil, errors.New("the report is in a zip file, which RFC 8460 does not allow")
	}
	return nil, ErrNone
}

// complete takes from the header of the mail what the report does not say. Postfix names no domain for no-policy-found.
func (l *letter) complete(r Report) Report {
	if r.Organization == "" {
		r.Organization = l.sender
	}
	for i := range r.Policies {
		if r.Policies[i].Domain == "" {
			r.Policies[i].Domain = l.domain
		}
	}
	return r
}

// mail reads a mail, or one that is in another.
func (l *letter) mail(r *bufio.Reader, depth int) error {
	header, err := headerOf(r)
	if err != nil {
		return err
	}
	domain, sender := l.domain, l.sender
	defer func() { l.domain, l.sender = domain, sender }() // of the mail around it
	l.domain, l.sender = host(safe(header.Get("TLS-Report-Domain"))), safe(header.Get("TLS-Report-Submitter"))
	return l.part(textproto.MIMEHeader(header), r, depth)
}

// headerOf reads the header of a mail.
func headerOf(r *bufio.Reader) (mail.Header, error) {
	var text bytes.Buffer
	for {
		line, err := r.ReadSlice('\n')
		if text.Write(line); text.Len() > mostHeader {
			return nil, fmt.Errorf("the header of the mail: %w", errLarge)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil || len(bytes.TrimRight(line, "\r\n")) == 0 {
			break // a mail without a body has no report
		}
	}
	text.WriteString("\r\n")
	m, err := mail.ReadMessage(&text)
	if err != nil {
		return nil, fmt.Errorf("%w: it is neither JSON nor gzip nor a mail", ErrNone)
	}
	return m.Header, nil
}

// part reads one part of a mail.
func (l *letter) part(header textproto.MIMEHeader, body io.Reader, depth int) error {
	if l.parts++; l.parts > mostParts {
		return fmt.Errorf("the mail has more than %d parts", mostParts)
	}
	if depth > mostNested {
		return errors.New("the parts of the mail are nested too deep")
	}
	kind, options, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil && kind == "" { // RFC 2045 section 5.2: then it is text
		kind = "text/plain"
	}
	if strings.HasPrefix(kind, "multipart/") {
		return l.multipart(body, options["boundary"], depth)
	}
	decoded := decode(header.Get("Content-Transfer-Encoding"), body)
	if kind == "message/rfc822" || kind == "message/global" {
		if err := l.mail(bufio.NewReader(decoded), depth+1); err != nil && !errors.Is(err, ErrNone) {
			return err
		}
		return nil
	}
	return l.attachment(kind, nameOf(header, options), decoded)
}

func (l *letter) multipart(body io.Reader, boundary string, depth int) error {
	if boundary == "" {
		return nil
	}
	parts := multipart.NewReader(body, boundary)
	for {
		part, err := parts.NextRawPart()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return ErrCutOff
		case err != nil:
			return fmt.Errorf("the parts of the mail cannot be read: %s", finding.Quote(err.Error(), mostText))
		}
		if err := l.part(part.Header, part, depth+1); err != nil {
			return err
		}
	}
}

// nameOf returns the file name of an attachment.
func nameOf(header textproto.MIMEHeader, options map[string]string) string {
	_, disposition, _ := mime.ParseMediaType(header.Get("Content-Disposition"))
	name := options["name"]
	if n := disposition["filename"]; n != "" {
		name = n
	}
	return strings.ToLower(name)
}

// attachment reads a report from a part. What may also be something else is no fault if it is not a report.
func (l *letter) attachment(kind, name string, body io.Reader) error {
	named := strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".json.gz") || strings.HasSuffix(name, ".gz")
	sure := strings.HasPrefix(kind, "application/tlsrpt")
	switch {
	case kind == "application/zip", kind == "application/x-zip-compressed", strings.HasSuffix(name, ".zip"):
		l.zip = true
		return nil
	case sure, named:
	case !slices.Contains([]string{"application/json", "application/gzip", "application/x-gzip", "application/octet-stream"}, kind):
		return nil
	}
	report, err := fromFile(bufio.NewReader(body))
	switch {
	case err == nil:
		l.reports = append(l.reports, l.complete(report))
	case l.fault == nil && (sure || !errors.Is(err, ErrNone)):
		l.fault = err
	}
	return nil
}

// fromFile reads a report as JSON or gzip.
func fromFile(r *bufio.Reader) (Report, error) {
	if mark, _ := r.Peek(2); string(mark) != "\x1f\x8b" {
		return parse(r)
	}
	unpacked, err := gzip.NewReader(r)
	if err != nil {
		return Report{}, ErrCutOff
	}
	return parse(unpacked)
}

// decode undoes the transfer encoding of a part.
func decode(encoding string, body io.Reader) io.Reader {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, &letters{body})
	case "quoted-printable":
		return quotedprintable.NewReader(body)
	}
	return body
}

// letters gives only what base64 consists of: RFC 2045 section 6.8 wants the rest ignored.
type letters struct{ from io.Reader }

// Read reads some.
func (l *letters) Read(p []byte) (int, error) {
	for {
		n, err := l.from.Read(p)
		kept := slices.DeleteFunc(p[:n:n], func(c byte) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '+' && c != '/' && c != '='
		})
		if len(kept) > 0 || err != nil || n == 0 {
			return len(kept), err
		}
	}
}
