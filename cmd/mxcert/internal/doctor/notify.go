package doctor

import (
	"context"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// channel returns the test whether people could be told by a channel. It tells them nothing. No fault here keeps a certificate from being
// renewed, so it is a warning.
func (d *Doctor) channel(c wanted.Channel) func(ctx context.Context) []finding.Finding {
	return func(ctx context.Context) []finding.Finding {
		where := d.Runner.Host.Where(c.Name)
		if err := c.Probe(ctx, d.Online); err != nil {
			if d.Held != "" && report.KindOf(err) == "permission" {
				return []finding.Finding{well("only the service can use the channel %s (%s)", c.Name, where).About(c.Name).Next("mxcert notify test " + finding.Word(c.Name) + " has the daemon send a message")}
			}
			return []finding.Finding{doubtful("the channel %s cannot tell anybody (%s): %s", c.Name, where, report.OneLine(err.Error())).About(c.Name).Next(report.HintOf(err))}
		}
		return []finding.Finding{well("the channel %s is ready (%s)", c.Name, where).About(c.Name).Next("mxcert notify test " + finding.Word(c.Name))}
	}
}
