package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/causeway-mesh/causeway/discovery/ec2"
	"github.com/causeway-mesh/causeway/discovery/probe"
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
