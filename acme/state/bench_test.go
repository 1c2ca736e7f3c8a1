package state_test

import (
	"fmt"
	"testing"

	"mxcert/acme/bundle"
)

// BenchmarkThousandLineages reads what status reads of 1,000 lineages: the record, the description of the current
// generation, and its bundle.
func BenchmarkThousandLineages(b *testing.B) {
	const lineages = 1000
	book, certificate := open(b), newBundle(b, bundle.EC256, 1)
	for i := range lineages {
		l := book.Lineage(fmt.Sprintf("mx%d", i))
		g := add(b, l, certificate, 1)
		record, _, err := l.Look()
		if err != nil {
			b.Fatal(err)
		}
		record.Slot(bundle.EC256).Issued(g.ID, g.NotAfter)
		if err := l.Save(record); err != nil {
			b.Fatal(err)
		}
	}
	for _, part := range []struct {
		name   string
		bundle bool
	}{{"record and description", false}, {"and bundle", true}} {
		b.Run(part.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for i := range lineages {
					l := book.Lineage(fmt.Sprintf("mx%d", i))
					record, _, err := l.Look()
					if err != nil {
						b.Fatal(err)
					}
					current := record.Slot(bundle.EC256).Current
					if _, err := l.Generation(current); err != nil {
						b.Fatal(err)
					}
					if !part.bundle {
						continue
					}
					if _, err := l.Bundle(current); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
