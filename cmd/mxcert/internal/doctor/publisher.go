package doctor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/dane"
)

const (
	// testTTL is that of a test record, which is removed at once.
	testTTL = time.Minute
	// removalTime is how long a test record may take to be removed after everything else had to end.
	removalTime = 20 * time.Second
)

// published tests whether mxcert may write the TLSA records that it should, at each place where they belong. If online is set, it also writes
// and removes a record below a random name of each zone.
func published(ctx context.Context, want wanted.Certificate, resolver *resolve.Resolver, online bool) (found []finding.Finding) {
	if want.DANE().Mode != dane.Publish {
		return nil
	}
	publisher, err := want.Publisher()
	if err != nil || publisher == nil {
		for _, f := range faults(err, "see dane.publisher of the configuration") {
			found = append(found, called("tlsa-write", f))
		}
		return found
	}
	zones := map[string]bool{}
	for _, o := range want.Owners() {
		place, err := placeOf(ctx, resolver, o, want.DANE())
		if err != nil {
			found = append(found, called("tlsa-write", doubtful("where the TLSA records of %s belong was not found: %s", o.Name(), report.OneLine(err.Error())).Next(hintOr(err, "dig +trace "+o.Name()+" TLSA"))).About(o.Name()))
			continue
		}
		f, may := mayWrite(ctx, publisher, o, place)
		found = append(found, f)
		if online && may && !zones[place.Zone] {
			zones[place.Zone] = true
			found = append(found, tried(ctx, publisher, place, want.UpdatesTLSA()))
		}
	}
	return found
}

// placeOf finds where the records of an owner are, as a pass does.
func placeOf(ctx context.Context, resolver *resolve.Resolver, o dane.Owner, s dane.Settings) (dane.Place, error) {
	return dane.Locate(ctx, resolver, dane.Look(ctx, resolver, o, s, state.Instant{At: time.Now()}))
}

// mayWrite asks the service about one place.
func mayWrite(ctx context.Context, publisher dane.Publisher, o dane.Owner, place dane.Place) (f finding.Finding, may bool) {
	name := resolve.PlainName(place.Name)
	if name != o.Name() {
		name += ", to which " + o.Name() + " leads,"
	}
	if err := publisher.Probe(ctx, place); err != nil {
		return called("tlsa-write", bad("%s would not let mxcert write the TLSA records of %s: %s", publisher, name, report.OneLine(err.Error())).
			Next(hintOr(err, "man mxcert-dane has the right that mxcert needs, for each service"))).About(o.Name()), false
	}
	return called("tlsa-write", well("%s would let mxcert write the TLSA records of %s", publisher, name)).About(o.Name()), true
}

// tried writes a record below a random name, where nobody looks for one, and removes it. A service that permits single names refuses it,
// although it takes the records that matter: with updates the probe has shown that already.
func tried(ctx context.Context, publisher dane.Publisher, place dane.Place, probed bool) finding.Finding {
	var random [36]byte
	_, _ = rand.Read(random[:]) // never fails
	record := dane.Record(hex.EncodeToString(random[4:]))
	test := place
	test.Name = "_25._tcp.mxcert-check-" + hex.EncodeToString(random[:4]) + "." + strings.TrimPrefix(place.Zone, ".")
	name := resolve.PlainName(test.Name)
	records := []resolve.TLSA{record}
	err := publisher.Add(ctx, test, records, testTTL)
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), removalTime)
	defer cancel()
	removed := publisher.Remove(late, test, records)
	switch {
	case err != nil && probed:
		return called("tlsa-online", well("%s takes no record below a random name such as %s, so nothing was written: its answer about the records themselves counts", publisher, name)).About(place.Zone)
	case err != nil:
		return called("tlsa-online", doubtful("%s refuses a test record at %s: %s", publisher, name, report.OneLine(err.Error())).
			Next(hintOr(err, "if the token is for single names only, this is as it should be; mxcert tlsa publish shows whether the records themselves can be written"))).About(place.Zone)
	case removed != nil:
		return called("tlsa-online", doubtful("%s took a test record at %s, but did not remove it: %s", publisher, name, report.OneLine(removed.Error())).Next("remove it by hand: "+name+" TLSA "+record.String())).About(place.Zone)
	}
	if list, _, err := publisher.List(late, test); err == nil && slices.ContainsFunc(list, func(r resolve.TLSA) bool { return r.String() == record.String() }) {
		return called("tlsa-online", doubtful("%s says that it has removed a test record at %s, but lists it", publisher, name).Next("remove it by hand: "+name+" TLSA "+record.String())).About(place.Zone)
	}
	return called("tlsa-online", well("%s took a test record at %s and removed it", publisher, name)).About(place.Zone)
}
