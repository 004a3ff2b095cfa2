package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/causeway-mesh/causeway/discovery/ec2"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/lead"
	"github.com/causeway-mesh/causeway/discovery/probe"
	"github.com/causeway-mesh/causeway/xds/replica"
)

// ec2 returns the source that reads EC2 and the prober of its instances. They
// do nothing as long as there is no InstanceGroup.
func (s *serve) ec2() (*ec2.Source, *probe.Prober, error) {
	c := ec2.Config{Interval: s.opts.ec2Interval}
	for _, q := range s.opts.ec2Queues {
		queue := ec2.Queue{URL: q}
		if region, rest, ok := strings.Cut(q, "="); ok && !strings.Contains(region, "/") {
			queue = ec2.Queue{Region: region, URL: rest}
		}
		if u, err := url.Parse(queue.URL); err != nil || u.Host == "" {
			return nil, nil, fmt.Errorf("--ec2-queue: %q is not the URL of a queue, or REGION=URL", q)
		}
		c.Queues = append(c.Queues, queue)
	}
	src := ec2.New(c, s.log, s.registry)
	s.release = src.Release
	return src, probe.New(s.log), nil
}

// leaves returns what makes hosts drain whose agents say so, by what all replicas hear.
func (s *serve) leaves(src *ec2.Source, identity string, store *lead.Records) []component {
	o := replica.LeavesOptions{Identity: identity, Heard: s.members.Leaving, Apply: src.Leave, Changed: s.members.LeavingChanged(), Log: s.log}
	if store == nil {
		return []component{{"hosts that drain", replica.NewLeaves(o).Run}}
	}
	o.Store = store
	l := replica.NewLeaves(o)
	return []component{{"hosts that drain", l.Run}, {"drains of other replicas", func(ctx context.Context) error { return store.Watch(ctx, l.Take) }}}
}
