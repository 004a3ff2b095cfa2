package main

import (
	"context"

	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/discovery/state"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// standalone returns the parts of a control plane without Kubernetes.
func (s *serve) standalone() ([]component, error) {
	var dir *state.Dir
	var lastGood file.LastGood
	if s.opts.stateDir == "" {
		s.log.Warn("no --state-dir: while the EC2 API does not answer, a restart has no instances to serve")
	} else {
		var err error
		if dir, err = state.Open(s.opts.stateDir, s.log); err != nil {
			return nil, err
		}
		if err := dir.Lock(); err != nil {
			return nil, err
		}
		lastGood, s.pins.Store = dir, dir.Pins()
	}
	keeper := state.NewKeeper(dir, upstream.UnrecordedHomes, s.log)
	if err := keeper.Restore(s.catalog); err != nil {
		s.log.Error("starting without all of the last known good", "error", err)
	}
	shifts := state.NewShifts(dir, s.catalog, s.log)
	if err := shifts.Restore(); err != nil {
		s.log.Error("starting without all that was known of TrafficShifts", "error", err)
	}
	files := file.New(s.opts.config, s.log, lastGood)
	s.releaseConfig = files.Release
	instances, prober, err := s.ec2()
	if err != nil {
		return nil, err
	}
	if err := s.newObserver("", nil); err != nil {
		return nil, err
	}
	s.newShifts(shifts)
	list := sources{
		{name: "files", Source: files},
		{name: "state", Source: keeper},
		{name: "ec2", Source: instances, after: files.Required()},
		{name: "checks", Source: prober},
	}
	s.required = list.required()
	out := append(list.components(s, false), component{"observations", s.whenServing(s.observer.Lead)})
	out = append(out, s.leaves(instances, "", nil)...)
	if s.opts.shiftsFrom != "" {
		shifts.ExpectOther()
		s.log.Info("another control plane carries TrafficShifts out; this one follows it", "state-dir", s.opts.shiftsFrom)
		return append(out, component{"states of shifts", func(ctx context.Context) error { return shifts.Follow(ctx, s.opts.shiftsFrom) }}), nil
	}
	s.log.Info("this control plane steps TrafficShifts; another one with the same configuration needs --shifts-from, or both step and their shares part", "shifts-from", s.opts.stateDir)
	return append(out, []component{
		{"states of shifts", func(ctx context.Context) error {
			// A row that is not read yet is not deleted.
			if err := s.await(ctx, file.Scope); err != nil {
				return err
			}
			return shifts.Run(ctx)
		}},
		{"shifts", s.whenServing(func(ctx context.Context) error { return s.shifts.Run(ctx, shifts) })},
	}...), nil
}
