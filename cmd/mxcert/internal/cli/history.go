package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/state"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// historyReport is `history --json`.
type historyReport struct {
	Certificates []lineageHistory `json:"certificates"`
}

type lineageHistory struct {
	Name        string             `json:"name"`
	Generations []generationReport `json:"generations"`
	Events      []state.Event      `json:"events"`
}

type generationReport struct {
	report.Key
	ID      string    `json:"id"`
	Names   []string  `json:"names"`
	Created time.Time `json:"created"`
	Current bool      `json:"current"`
	Served  bool      `json:"served"`
}

func (a *app) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "history [NAME]", Short: "What was issued, deployed, reverted and repaired", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, names []string) error { return a.history(names) },
	}
}

func (a *app) history(names []string) error {
	config, err := a.load()
	if err != nil {
		return err
	}
	host, _ := wanted.From(config) // no chain is checked here
	wants, err := choose(host, names)
	if err != nil {
		return err
	}
	store, err := view(host.State)
	if err != nil {
		return err
	}
	r := historyReport{Certificates: []lineageHistory{}}
	for _, want := range wants {
		h, err := readHistory(store.Lineage(want.Name))
		if err != nil {
			return err
		}
		r.Certificates = append(r.Certificates, h)
	}
	if a.json {
		return a.printJSON(r)
	}
	for _, h := range r.Certificates {
		a.printHistory(h)
	}
	return nil
}

func readHistory(lineage *state.Lineage) (lineageHistory, error) {
	h := lineageHistory{Name: lineage.Name(), Generations: []generationReport{}, Events: []state.Event{}}
	record, _, err := lineage.Look()
	if err != nil {
		return h, err
	}
	generations, err := lineage.Generations()
	if err != nil {
		return h, err
	}
	for _, g := range generations {
		slot := record.Slot(g.Key)
		h.Generations = append(h.Generations, generationReport{ID: g.ID, Names: g.Names, Created: g.Created,
			Current: slot.Current == g.ID, Served: slot.Served == g.ID,
			Key: report.Key{Key: string(g.Key), Serial: g.Serial, NotBefore: g.NotBefore, NotAfter: g.NotAfter, Issuer: g.Issuer, SPKI: g.SPKI}})
	}
	h.Events = append(h.Events, record.Events...)
	return h, nil
}

func (a *app) printHistory(h lineageHistory) {
	fmt.Fprintf(a.stdout, "%s\n", h.Name)
	for _, g := range h.Generations {
		mark := ""
		if g.Current {
			mark += " current"
		}
		if g.Served {
			mark += " served"
		}
		fmt.Fprintf(a.stdout, "  %s  %-8s serial %s, valid until %s%s\n", report.Second(g.Created), g.Key.Key, g.Serial, report.Minute(g.NotAfter), mark)
	}
	for _, e := range h.Events {
		fmt.Fprintln(a.stdout, report.OneLine(fmt.Sprintf("  %s  %-14s %s %s %s", report.Second(e.At), e.Event, e.Key, e.Serial, e.Message)))
	}
}
