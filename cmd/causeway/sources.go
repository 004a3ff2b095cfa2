package main

import (
	"context"

	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// source is one of the sources of a control plane.
type source struct {
	name string
	catalog.Source
	// after names what must have been read before it starts, because it starts from that.
	after []string
	// leader is true for a source that one replica reads for all.
	leader bool
}

// sources are all that a control plane reads.
type sources []source

// required returns the statuses without which nothing may be served.
func (l sources) required() []string {
	var out []string
	for _, src := range l {
		out = append(out, src.Required()...)
	}
	return out
}

// components returns what reads the sources of every replica, or those of the leader.
func (l sources) components(s *serve, leader bool) []component {
	var out []component
	for _, src := range l {
		if src.leader != leader {
			continue
		}
		out = append(out, component{src.name, func(ctx context.Context) error {
			if err := s.await(ctx, src.after...); err != nil {
				return err
			}
			return src.Run(ctx, s.catalog)
		}})
	}
	return out
}
