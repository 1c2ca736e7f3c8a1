package publish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"mxcert/acme/dnsupdate"
	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
)

// rfc2136 sends dynamic updates to the zone's primary server, and asks the same server what it holds.
type rfc2136 struct {
	client    dnsupdate.Client
	addresses func(ctx context.Context, host string) ([]string, error)
}

func newRFC2136(env map[string]string, addresses func(context.Context, string) ([]string, error)) (service, error) {
	client, err := dnsupdate.New(env)
	return rfc2136{client, addresses}, err
}

// String names the server.
func (s rfc2136) String() string {
	if s.client.Server == "" {
		return "dynamic updates to the zone's primary server"
	}
	return "dynamic updates to " + s.client.Server
}

func (s rfc2136) replaces() bool { return false }

// to returns the client for a place: without a configured server, the zone's primary takes the updates.
func (s rfc2136) to(ctx context.Context, at dane.Place) (dnsupdate.Client, error) {
	c := s.client
	if c.Server != "" {
		return c, nil
	}
	if at.Primary == "" || s.addresses == nil {
		return c, &Error{service: s.String(), subject: at.Name, kind: "dns-config", reason: "the primary server of zone " + at.Zone + " is not known", hint: "set DNSUPDATE_NAMESERVER to it"}
	}
	found, err := s.addresses(ctx, at.Primary)
	if err == nil && len(found) == 0 {
		err = errors.New("it has none")
	}
	if ctx.Err() != nil {
		return c, ctx.Err()
	}
	if err != nil {
		return c, &Error{
			service: s.String(), subject: at.Name, kind: "dns-unreachable", temporary: true,
			reason: fmt.Sprintf("the address of the primary server %s of zone %s is not known: %v", at.Primary, at.Zone, err), hint: "set DNSUPDATE_NAMESERVER to the server that takes updates, if it is another",
		}
	}
	c.Server = net.JoinHostPort(found[0], "53")
	return c, nil
}

func (s rfc2136) read(ctx context.Context, at dane.Place) (set, error) {
	c, err := s.to(ctx, at)
	if err != nil {
		return set{}, err
	}
	answer, err := c.TLSA(ctx, at.Zone, at.Name)
	if err != nil {
		return set{}, err
	}
	found := set{ttl: time.Duration(answer.TTL) * time.Second, alias: answer.Alias}
	for _, text := range answer.Records {
		r, err := resolve.ParseTLSA(text)
		found.records = append(found.records, held{TLSA: r, raw: text, foreign: err != nil})
	}
	return found, nil
}

func (s rfc2136) write(ctx context.Context, at dane.Place, todo change) error {
	c, err := s.to(ctx, at)
	if err != nil {
		return err
	}
	var present []string
	for _, h := range todo.before.records {
		if h.foreign { // a condition cannot name it, so there is none
			present = nil
			break
		}
		present = append(present, h.raw)
	}
	return c.ChangeTLSA(ctx, at.Zone, at.Name, present, texts(todo.remove), texts(todo.add), uint32(todo.ttl/time.Second))
}

func (s rfc2136) probe(ctx context.Context, at dane.Place) error {
	c, err := s.to(ctx, at)
	if err != nil {
		return err
	}
	return c.ProbeTLSA(ctx, at.Zone, at.Name)
}
