package journal

import "log/slog"

// Event is something that mxcert logs under a fixed MESSAGE_ID, so that a person can look for it and `journalctl -x` explains it. The text is
// its name in logs that do not go to the journal. packaging/systemd/mxcert.catalog has the explanations.
type Event string

// The events. Names and IDs never change: people's searches and alerts use them.
const (
	Started      Event = "started"
	LookedAt     Event = "looked-at" // each certificate had its first pass
	Stopping     Event = "stopping"
	ConfigLoaded Event = "configuration-loaded"
	ConfigBad    Event = "configuration-bad"

	Ordered    Event = "ordered"
	Issued     Event = "issued"
	Served     Event = "served"      // a new certificate is in service
	Restored   Event = "restored"    // the certificate is in service again, after something else had changed files or what is served
	OrderWaits Event = "order-waits" // for the end of a limit or of a backoff

	Taken      Event = "taken"       // another host of the fleet has ordered it
	FleetWaits Event = "fleet-waits" // an order waits for another host of the fleet, or for its store
	FleetAway  Event = "fleet-away"  // the store of the fleet cannot be used, or holds what this host refuses
	FleetBack  Event = "fleet-back"

	OrderFailed   Event = "order-failed"
	ProofFailed   Event = "proof-failed" // of a name, by DNS
	Limited       Event = "rate-limited" // by the CA
	AccountFailed Event = "account-failed"
	DeployFailed  Event = "deploy-failed"
	NotServed     Event = "not-served" // an endpoint does not show the certificate
	HookFailed    Event = "hook-failed"
	PassFailed    Event = "pass-failed"     // for another reason
	Refused       Event = "command-refused" // a person's; nothing changed

	AccountChanged Event = "account-changed"
	FilesChanged   Event = "files-changed"
	LeftAlone      Event = "left-alone" // something else keeps changing the files
	NameLeftOut    Event = "name-left-out"
	NameBack       Event = "name-back"
	NamesChanged   Event = "names-changed" // that MX records lead to
	GateClosed     Event = "gate-closed"   // senders that use DANE would not accept what is to be served
	TLSAChanged    Event = "tlsa-changed"
	SendersFault   Event = "senders-fault"
	SendersWell    Event = "senders-well"   // a fault is gone
	ReportedFault  Event = "reported-fault" // senders have reported a failure (RFC 8460) that holds
	ReportedWell   Event = "reported-well"  // such a failure is over
	LogsFault      Event = "logs-fault"     // the logs have a certificate that mxcert did not order, or cannot be looked at
	LogsWell       Event = "logs-well"      // such a fault is over
	StapleFailed   Event = "ocsp-failed"    // there is no OCSP response that can be sent along
	TXTRemain      Event = "txt-remain"
	NotTold        Event = "not-told" // a notification could not be sent
)

// IDs returns the MESSAGE_ID of each event.
func IDs() map[Event]string {
	return map[Event]string{
		Started:        "4845a175562b447dac988d032a0bad9a",
		LookedAt:       "e83fc77b5c7846d2910ddcf2bce69002",
		Stopping:       "88ca8ad4038a49b28bdd79b567d435c6",
		ConfigLoaded:   "9e243a52d0ce4fadb484316efe71adef",
		ConfigBad:      "2cd1912950634dd185e43feb38d5e4a0",
		Ordered:        "eb05856373b840f6a7c17cb279f941f3",
		Issued:         "208fb29b2d324042a3b21d3e74631b3d",
		Served:         "a30a377e935c4538b8b049f698b16a52",
		Restored:       "20b3744a2a65406bbe775b977cb3a6e1",
		OrderWaits:     "8e94cf607fe7415a9f5c009841bac77b",
		Taken:          "2d55d4e3d86c4f4b927acb312aaf541f",
		FleetWaits:     "a24bfe7100544df689b384e79eac34a0",
		FleetAway:      "7ff1b92cb87149e8ba89d7d31bb58aa8",
		FleetBack:      "7420e95dbf2d4078b18041ef4d06154f",
		OrderFailed:    "321edc103171473fafed65bf7b3371aa",
		ProofFailed:    "9f68104ae63d4078aa858fe64d9c8d99",
		Limited:        "dc5b6d3603c647a3bb77f17a0a1fe14c",
		AccountFailed:  "ed36a37bf23c4d459aea8bdbad24ed7d",
		DeployFailed:   "5ab2f24a9738435ca5635ddf3f7589a1",
		NotServed:      "4ca66b3d300c419186c444235fc0e44c",
		HookFailed:     "3965cb0d784e4a1588b7d55366f14f15",
		PassFailed:     "f875bac026c94bf19a54202bf202c62b",
		Refused:        "27602ec58fd048efb1268c9e8898ca1c",
		AccountChanged: "c9e951659f8d4e7193fbf341dad2e8ad",
		FilesChanged:   "c4fe27755da641be8652857a772cc3ae",
		LeftAlone:      "b5b4d5df35544330a3a12c88e10ef9d8",
		NameLeftOut:    "40cad7af39814c07ac174808838bfb83",
		NameBack:       "b060e318c74744a9ad39c76a0c9c6844",
		NamesChanged:   "bb7a6a5aafd4450ba806b147ec1c67af",
		GateClosed:     "1a97ff0f0524411c876b9ac660997416",
		TLSAChanged:    "e6bcd3c50208458fa8aac199dc3edb22",
		SendersFault:   "39c781dde1734d2c815f571013f94580",
		SendersWell:    "de9a13dbd56b48cea6ac9d3a13f2349b",
		ReportedFault:  "b53b87e1c8de4785b7a2ab5bc1801411",
		ReportedWell:   "c4a464c94a254469b36fbfb4835d9e87",
		LogsFault:      "0657653bcd7349a6afb7c134be7db46b",
		LogsWell:       "e7c995cc0ca04835983a078a05797890",
		StapleFailed:   "250b0ff4e0ef45188c885fe0c7b7783f",
		TXTRemain:      "9f924b9317ea4ccfa24285e9e39ae2b3",
		NotTold:        "175b4a70d6934432a0ff87e4c93209af",
	}
}

// Key is the key of the attribute that names an event.
const Key = "event"

// Attr returns the attribute that makes a record this event.
func (e Event) Attr() slog.Attr { return slog.String(Key, string(e)) }
