package main

import (
	"context"

	"github.com/causeway-mesh/causeway/discovery/file"
)

// standalone returns the sources of a mesh without Kubernetes.
func (s *serve) standalone() ([]component, error) {
	src := file.New(s.opts.config, s.log, nil)
	s.required = []string{file.Scope}
	return []component{
		{"files", func(ctx context.Context) error { return src.Run(ctx, s.catalog) }},
	}, nil
}
