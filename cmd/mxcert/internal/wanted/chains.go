package wanted

import (
	"path/filepath"
	"slices"
)

// Chains lists the paths at which mail servers read certificates, each once. Paths that change with every certificate are left out.
func (h *Host) Chains() []string {
	var paths []string
	for _, c := range h.Certificates {
		for _, place := range c.Places {
			for _, t := range place.Targets {
				paths = append(paths, t.Certificate, t.Combined)
				if t.Directory != "" {
					paths = append(paths, filepath.Join(t.Directory, "fullchain.pem"))
				}
			}
		}
	}
	slices.Sort(paths)
	return slices.DeleteFunc(slices.Compact(paths), func(path string) bool { return path == "" })
}
