package report

import "time"

// Fleet is what this host knows of its fleet, in the document of status.
type Fleet struct {
	Name   string      `json:"name"`
	Host   string      `json:"host"` // of this host in it
	Engine FleetEngine `json:"engine"`
	Faults []string    `json:"faults"` // what the store holds and this host refuses
}

// FleetEngine says how the store of a fleet is.
type FleetEngine struct {
	Up     bool       `json:"up"`
	Since  *time.Time `json:"since"`            // nil if it was never asked
	Reason string     `json:"reason,omitempty"` // why it is not up
	Hint   string     `json:"hint,omitempty"`
}
