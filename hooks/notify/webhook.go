package notify

import (
	"context"
	"encoding/json"
	"strings"
)

// The bodies of a webhook. Any other is the path of a template.
const (
	BodyJSON   = "json"   // the message itself
	BodySlack  = "slack"  // {"text": …}, as the incoming webhooks of Slack and Mattermost take it
	BodyNtfy   = "ntfy"   // text, with headers for title, priority and tags, as ntfy takes it at the URL of a topic
	BodyMatrix = "matrix" // {"text": …}, as the generic webhooks of matrix-hookshot take it
)

// Bodies lists the bodies that need no template.
func Bodies() []string { return []string{BodyJSON, BodySlack, BodyNtfy, BodyMatrix} }

// webhook sends messages by an HTTP request.
type webhook struct {
	Webhook

	name string
}

// Webhook says how a channel makes an HTTP request.
type Webhook struct {
	URL    Secret
	Body   string // one of [Bodies], or the absolute path of a template, which is read for each message; "" is [BodyJSON]
	CAFile string // path of a PEM file with the roots to trust, which is read for each message; "": those of the system
}

// NewWebhook returns a channel that makes an HTTP request to a secret URL.
func NewWebhook(name string, w Webhook) Channel {
	return &webhook{name: name, Webhook: w}
}

func (w *webhook) Name() string { return w.name }

// Send makes the request. It succeeds if the answer has a status 2xx.
func (w *webhook) Send(ctx context.Context, m Message) error {
	address, err := readURL(w.URL)
	if err != nil {
		return err
	}
	r, err := bodyOf(w.Body, m.Clean())
	if err != nil {
		return err
	}
	if r.roots, err = rootsIn(w.CAFile); err != nil {
		return err
	}
	r.what, r.address, r.setting = "the webhook", address, "webhook.ca_file"
	return r.call(ctx)
}

// Probe tests what a message needs, without sending one.
func (w *webhook) Probe(context.Context, bool) error {
	if strings.HasPrefix(w.Body, "/") {
		if err := CheckTemplate(w.Body); err != nil {
			return err
		}
	}
	if err := CheckRoots(w.CAFile); err != nil {
		return err
	}
	_, err := readURL(w.URL)
	return err
}

// bodyOf returns a request with content type and body for a message.
func bodyOf(body string, m Message) (request, error) {
	switch body {
	case BodyJSON, "":
		return asJSON(m)
	case BodySlack:
		// Slack reads <, > and & as its own signs: https://docs.slack.dev/messaging/formatting-message-text
		escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
		return asJSON(map[string]string{"text": "*" + escape.Replace(strings.ReplaceAll(m.Subject, "*", "∗")) + "*\n" + escape.Replace(m.Text)})
	case BodyMatrix:
		return asJSON(map[string]string{"text": m.Subject + "\n\n" + m.Text})
	case BodyNtfy:
		return asNtfy(m), nil
	}
	return fromTemplate(body, m)
}

func asJSON(v any) (request, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return request{}, &Error{message: "the message cannot be written as JSON: " + err.Error(), kind: Setting, hint: "this is a fault of mxcert: please report it"}
	}
	return request{kind: "application/json", body: text}, nil
}

// mostNtfy is the longest message that ntfy shows as text; a longer one becomes an attachment. https://docs.ntfy.sh/publish/#limitations
const mostNtfy = 4000

// asNtfy writes the title as an encoded word (RFC 2047), which ntfy decodes: a header has no other characters than ASCII.
func asNtfy(m Message) request {
	priority, tag := "default", "information_source"
	switch m.Event {
	case Recovered:
		tag = "white_check_mark"
	case Alarm, Reminder:
		priority, tag = "default", "warning"
		if m.severe() {
			priority, tag = "high", "rotating_light"
		}
	case Test:
	}
	return request{kind: "text/plain; charset=utf-8", body: []byte(lines(m.Text, mostNtfy)), header: map[string]string{"Title": encodedWord(m.Subject), "Priority": priority, "Tags": tag}}
}

// severe reports whether one of the matters is an error.
func (m Message) severe() bool {
	for _, matter := range m.Matters {
		if matter.Severity == "error" {
			return true
		}
	}
	return false
}
