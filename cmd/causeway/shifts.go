package main

import (
	"context"
	"time"

	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/shift/notify"
	"github.com/causeway-mesh/causeway/policy/shift/query"
	"github.com/causeway-mesh/causeway/policy/shift/runner"
)

// newShifts sets up the controller of TrafficShifts. store keeps them without
// Kubernetes. With Kubernetes it is nil: there only the leader has one.
func (s *serve) newShifts(store runner.Store) {
	s.shiftStore = store
	s.notices = notify.New(notify.Options{Log: s.log, Registerer: s.registry, AllowLoopback: s.opts.config != "", Page: s.opts.ui.URL})
	s.shifts = runner.New(runner.Options{
		Catalog: s.catalog, Outcomes: s.observer, Logger: s.log, Registry: s.registry,
		// Without Kubernetes, a person who may write a TrafficShift has the whole
		// host anyway.
		Asker:  query.New(query.Options{AllowLoopback: s.opts.config != "", Registerer: s.registry}),
		Sender: s.notices,
		Proxies: func() []shift.ProxyFacts {
			var out []shift.ProxyFacts
			for _, p := range s.xds.Proxies() {
				out = append(out, shift.ProxyFacts{Name: p.ID, Version: p.Version})
			}
			return out
		},
	})
}

// noticesLeft is how long notices may still be sent while the process ends.
const noticesLeft = 3 * time.Second

// sendNotices sends notices, and returns at the end, once unsent notices have had a last
// chance.
func (s *serve) sendNotices(ctx context.Context) error {
	<-ctx.Done()
	left, cancel := context.WithTimeout(context.WithoutCancel(ctx), noticesLeft)
	defer cancel()
	s.notices.Close(left)
	return ctx.Err()
}
