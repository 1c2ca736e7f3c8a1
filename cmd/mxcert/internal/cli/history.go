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
	Configured  bool               `json:"configured"`
	Directory   string             `json:"directory"`
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
	var all bool
	cmd := &cobra.Command{
		Use: "history [NAME]", Short: "What was issued, deployed, reverted and repaired", Args: cobra.MaximumNArgs(1),
		Long: `Lists the stored versions of each certificate, and what happened to it.

With --all it also lists certificates that the configuration no longer names. mxcert keeps their keys and does not renew them; a
certificate that gets its old name back gets its key back. To forget one for good, revoke it if its key is in danger, then delete
the directory that this command shows.`,
		RunE: func(_ *cobra.Command, names []string) error {
			if all && len(names) > 0 {
				return report.Usage("--all lists all certificates: call it without a NAME")
			}
			return a.history(names, all)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also certificates that the configuration no longer names")
	return cmd
}

func (a *app) history(names []string, all bool) error {
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
		h.Configured = true
		r.Certificates = append(r.Certificates, h)
	}
	if all {
		if r.Certificates, err = withOthers(r.Certificates, store, host); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(r)
	}
	out := a.sheet()
	for _, h := range r.Certificates {
		printHistory(out, h)
	}
	return nil
}

// withOthers adds the lineages that the configuration does not name.
func withOthers(list []lineageHistory, store *state.Book, host *wanted.Host) ([]lineageHistory, error) {
	names, err := store.Lineages()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, configured := host.Certificate(name); configured {
			continue
		}
		h, err := readHistory(store.Lineage(name))
		if err != nil {
			return nil, err
		}
		list = append(list, h)
	}
	return list, nil
}

func readHistory(lineage *state.Lineage) (lineageHistory, error) {
	h := lineageHistory{Name: lineage.Name(), Directory: lineage.Folder(), Generations: []generationReport{}, Events: []state.Event{}}
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

func printHistory(out sheet, h lineageHistory) {
	fmt.Fprintln(out, h.Name)
	if !h.Configured {
		out.line("not in use", "the configuration does not name it; directory %s", h.Directory)
	}
	for _, g := range h.Generations {
		mark := ""
		if g.Current {
			mark += " current"
		}
		if g.Served {
			mark += " served"
		}
		out.text(6, "  %s  %-8s serial %s, valid until %s%s", report.Second(g.Created), g.Key.Key, g.Serial, report.Minute(g.NotAfter), mark)
	}
	for _, e := range h.Events {
		out.text(6, "%s", report.OneLine(fmt.Sprintf("  %s  %-14s %s %s %s", report.Second(e.At), e.Event, e.Key, e.Serial, e.Message)))
	}
}
