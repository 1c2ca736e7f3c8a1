// Package page shows all that is known about the certificates of a host on one static HTML page, and as a calendar (RFC 5545).
//
// A page has no script and loads nothing, so it can be opened from a disk, sent by mail, or put on any web server. A [Sight] is what a page
// shows. [Of] makes one of what passes have found, and a command makes one of what it sees. [Listener] lets each pass write the page again.
//
// A page is small whatever the host has: when it is full, what is well is left out first, and the page says so.
//
// The pages are trees of golang.org/x/net/html, which escapes every text. The linker keeps every exported method of a program that executes
// a template, so there are no templates here.
package page

import (
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
)

// Sight is what a page shows.
type Sight struct {
	Host    string // name of this host
	Release string // version of the program
	At      time.Time
	Maker   Maker
	Since   time.Time // since when the worst of all is as bad as it is; zero if that is not known

	Certificates []Certificate // in the order of the configuration
	Alarms       []Alarm       // the worst first; Finish adds those of the certificates, and of what people were told
	Told         Told
	Fleet        *Fleet // nil if this host is in none, or if that is not known
}

// Maker says who has made a page, and so when it will be made again.
type Maker int

// The makers.
const (
	ByCommand Maker = iota // somebody has called mxcert report: nothing makes it again
	ByRun                  // mxcert renew, which a timer may call
	ByDaemon               // the daemon makes it again within the hour
)

// Certificate is what is known about a certificate.
type Certificate struct {
	Report report.Certificate
	Looked time.Time     // when files and endpoints were looked at; zero: not yet, and Report says only what is stored
	Events []state.Event // the newest first
	Seen   []report.SenderHost
}

const (
	// mostBytes limits a page. Details of certificates that are well are left out first.
	mostBytes = 960_000
	// mostRows limits the bytes of the table of all certificates.
	mostRows = 800_000
	// mostText limits a foreign text, in bytes.
	mostText = 600
)
