package transport

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/finding"
)

const (
	maxBody    = 1 << 20
	maxProblem = 64 << 10
)

// The types that problem documents get on their way to lego.
const (
	// BadNonce stands for the CA's badNonce: lego's own retry would wait 200 ms and longer. A refused nonce comes with a new
	// one, so the session repeats at once (RFC 8555 section 6.5).
	BadNonce = "urn:mxcert:badNonce"
	// NotProblem stands for an error answer that is not a problem document.
	NotProblem = "urn:mxcert:notAProblemDocument"
)

// RetryAfter reads both forms of the header Retry-After (RFC 9110 section 10.2.3), capped at a day.
func RetryAfter(value string, now time.Time) time.Duration {
	const most = 24 * time.Hour
	if value = strings.TrimSpace(value); value == "" {
		return 0
	}
	wait := most
	if strings.Trim(value, "0123456789") == "" {
		if seconds, err := strconv.Atoi(value); err == nil { // else it is longer than an int holds
			wait = time.Duration(min(seconds, int(most/time.Second))) * time.Second
		}
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	} else {
		return 0
	}
	return max(0, min(wait, most))
}

// readAll reads a body up to the cap and closes it.
func readAll(response *http.Response) ([]byte, error) {
	defer response.Body.Close()
	limit := int64(maxBody)
	if response.StatusCode >= http.StatusBadRequest {
		limit = maxProblem
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer was cut off: %w", err)
	case int64(len(body)) <= limit:
		return body, nil
	case response.StatusCode >= http.StatusBadRequest:
		return body[:limit], nil // cut JSON cannot be parsed: it becomes a problem of our own
	}
	return nil, NotACME("the answer is larger than %d bytes", limit)
}

// problemBody turns any body of an error answer into a problem document (RFC 7807) that lego's parser survives. It takes over
// only the fields that have the right name and type.
func problemBody(status int, body []byte) []byte {
	var raw map[string]json.RawMessage
	problem := legoacme.ProblemDetails{HTTPStatus: status}
	if err := json.Unmarshal(body, &raw); err != nil || raw == nil {
		problem.Type, problem.Detail = NotProblem, fmt.Sprintf("%.200q", body)
	} else {
		take(raw["type"], &problem.Type)
		take(raw["detail"], &problem.Detail)
		take(raw["instance"], &problem.Instance)
		var subproblems []json.RawMessage
		take(raw["subproblems"], &subproblems)
		for _, text := range subproblems {
			var sub legoacme.SubProblem
			take(text, &sub)
			problem.SubProblems = append(problem.SubProblems, sub)
		}
	}
	if problem.Type == "urn:ietf:params:acme:error:badNonce" {
		problem.Type = BadNonce
	}
	text, err := json.Marshal(problem)
	if err != nil {
		return []byte(`{"type":"` + NotProblem + `"}`)
	}
	return text
}

// take decodes a value; a value of another type leaves into as it is.
func take[T any](raw json.RawMessage, into *T) {
	var value T
	if json.Unmarshal(raw, &value) == nil {
		*into = value
	}
}

// Rescue is deferred: it turns a panic into an error, because an answer of one CA must not end a daemon that serves others.
func Rescue(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the answer cannot be understood (%s)", finding.Quote(fmt.Sprint(r), finding.MostQuoted))
	}
}

func textResponse(request *http.Request, status int, contentType string, body []byte) *http.Response {
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {contentType}}, ContentLength: int64(len(body)),
		Body: io.NopCloser(bytes.NewReader(body)), Request: request,
	}
}
