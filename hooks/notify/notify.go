// Package notify sends messages to people: by mail, by an HTTP request, by a program, and to a dead man's switch.
//
// It decides nothing: what is told, when, and how often is decided by who calls it. A [Channel] sends one [Message] once, within the time of
// its context, and says whether trying again can help.
package notify

import (
	"context"
	"time"
)

// Event says why a message is sent.
type Event string

// The events.
const (
	Alarm     Event = "alarm"     // something is wrong, and has not been told before
	Reminder  Event = "reminder"  // it is still wrong
	Recovered Event = "recovered" // it is over
	Test      Event = "test"      // a person asked for it
)

// Message is what is told. It is the JSON document that programs get.
type Message struct {
	Version int       `json:"version"` // 1
	Host    string    `json:"host"`
	Event   Event     `json:"event"`
	Subject string    `json:"subject"` // one line
	Text    string    `json:"text"`    // for people, lines of at most 78 columns
	At      time.Time `json:"at"`
	Matters []Matter  `json:"matters"` // what it is about, the worst first
	More    int       `json:"more"`    // how many further messages were dropped, because they could not be sent for a long time
}

// Matter is one thing that a message is about.
type Matter struct {
	ID           string    `json:"id"`       // stable, such as not-in-service
	Severity     string    `json:"severity"` // error or warning
	Certificates []string  `json:"certificates"`
	Since        time.Time `json:"since"`
	What         string    `json:"what"`    // what is wrong
	Senders      string    `json:"senders"` // what senders see; "" if that is not known, or nothing
	Next         string    `json:"next"`    // what to do
}

// Channel sends messages one way.
type Channel interface {
	Name() string
	// Send sends a message. An error has a Temporary method if trying again can help. It contains no secret, such as the URL of a webhook.
	Send(ctx context.Context, m Message) error
}

// Pinger is a dead man's switch: it raises the alarm elsewhere if it hears nothing.
type Pinger interface {
	Name() string
	// Ping says that all is well, or that it is not; text is for people.
	Ping(ctx context.Context, well bool, text string) error
}
