package report

import "time"

// Alarm is something that is wrong and that people are told, see the section notify of the configuration.
type Alarm struct {
	ID           string    `json:"id"`           // stable, such as not-in-service
	Severity     string    `json:"severity"`     // error or warning
	Certificates []string  `json:"certificates"` // empty if it is about the host
	Since        time.Time `json:"since"`
	Title        string    `json:"title"`         // in a few words
	What         string    `json:"what"`          // what is wrong
	Senders      string    `json:"senders"`       // what senders see; "" if that is not known, or nothing
	Next         string    `json:"next"`          // what to do
	Told         time.Time `json:"told,omitzero"` // when a message about it was made; zero if it is not told yet
	Gone         time.Time `json:"gone,omitzero"` // since when it is not found any more, and will be over if it stays so; zero if it still holds
}

// Undelivered is a channel that could not deliver what it has to tell.
type Undelivered struct {
	Channel string    `json:"channel"`
	Since   time.Time `json:"since"`
	Error   string    `json:"error"`
	Waiting int       `json:"waiting"` // messages that wait
}
