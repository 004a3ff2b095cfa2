package catalog

import "context"

// Source reads something of the outside into the catalog. What it has to keep to is written down in package discovery.
type Source interface {
	// Required returns the names of the statuses (discovery.SourceStatus) that must be ready before anything is served.
	Required() []string
	// Run reads into the catalog until the context ends, and returns the context's error: any other ends the control plane.
	Run(ctx context.Context, into *Catalog) error
}
