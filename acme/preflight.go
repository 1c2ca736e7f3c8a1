package acme

import (
	"context"
	"slices"
	"strings"

	"mxcert/acme/finding"
	"mxcert/acme/preflight"
)

// Preflight finds out whether an order could succeed at this CA; see [preflight.Run].
func (c *Client) Preflight(ctx context.Context, q preflight.Request) []finding.Finding {
	return preflight.Run(ctx, q, []func(context.Context) preflight.CA{c.describe})
}

// Preflight is [Client.Preflight] for all CAs: it asks DNS once, and a refusal of one CA is only a warning if another CA would
// accept the order.
func (a *Authorities) Preflight(ctx context.Context, q preflight.Request) []finding.Finding {
	var ask []func(context.Context) preflight.CA
	for _, c := range a.clients {
		ask = append(ask, c.describe)
	}
	return preflight.Run(ctx, q, ask)
}

// describe asks the CA about itself.
func (c *Client) describe(ctx context.Context) preflight.CA {
	directory, err := c.Directory(ctx)
	ca := preflight.CA{Name: c.ca(), Profiles: directory.Profiles, CAAIdentities: directory.CAAIdentities, Err: err}
	if stored, ok, err := c.store.Account(c.settings.Directory); err == nil && ok {
		ca.Account = stored.URL
	}
	return ca
}

// Blocked returns nil if no finding is an error, else an *Error that names all of those findings, with the kind and the hint
// of the first. Its stage is dns if the first is about zones and their servers, as it would be in an order, otherwise
// preflight.
func Blocked(findings []finding.Finding) error {
	var first *Error
	var messages []string
	for _, f := range findings {
		if f.Severity != finding.Error {
			continue
		}
		if first == nil {
			first = &Error{At: "preflight", ErrKind: f.ID, NextStep: f.Hint}
			switch f.ID {
			case "challenge", "delegation":
				first.At, first.ErrKind = "dns", "dns"
			case "dnssec":
				first.At = "dns"
			}
		}
		if !slices.Contains(messages, f.Message) {
			messages = append(messages, f.Message)
		}
	}
	if first == nil {
		return nil
	}
	first.Message = "the order would fail: " + strings.Join(messages, "; ")
	return first
}
