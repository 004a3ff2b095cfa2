package main

import (
	"context"
	"strings"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/ec2"
	"github.com/causeway-mesh/causeway/discovery/file"
)

// standalone returns the parts of a control plane without Kubernetes.
func (s *serve) standalone() ([]component, error) {
	src := file.New(s.opts.config, s.log, nil)
	instances, prober, err := s.ec2()
	if err != nil {
		return nil, err
	}
	s.required = []string{file.Scope}
	s.servesEC2 = true
	return []component{
		{"files", func(ctx context.Context) error { return src.Run(ctx, s.catalog) }},
		{"ec2", func(ctx context.Context) error {
			if err := s.await(ctx, file.Scope); err != nil {
				return err
			}
			return instances.Run(ctx, s.catalog)
		}},
		{"checks", func(ctx context.Context) error { return prober.Run(ctx, s.catalog) }},
	}, nil
}

// missingEC2 lists what is not known of EC2 yet, where its answers are served
// directly. In Kubernetes they are served from what was published of them.
func (s *serve) missingEC2(r catalog.Reader) []string {
	if !s.servesEC2 {
		return nil
	}
	var out []string
	seen := false
	for st := range catalog.Sources.All(r) {
		if st.Name != ec2.Scope && !strings.HasPrefix(st.Name, ec2.Scope+"/") {
			continue
		}
		seen = true
		if !st.Ready() {
			out = append(out, st.Name)
		}
	}
	if !seen {
		out = append(out, ec2.Scope)
	}
	return out
}
