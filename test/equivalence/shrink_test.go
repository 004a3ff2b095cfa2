package equivalence

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// shrink returns the smallest case and request found for which fails still
// holds. It drops parts one by one until no more can go.
func shrink[C, R any](c C, r R, smaller func(C, R) []candidate[C, R], fails func(C, R) bool) (C, R) {
	for progress, budget := true, 300; progress; {
		progress = false
		for _, try := range smaller(c, r) {
			if budget--; budget < 0 {
				return c, r
			}
			if fails(try.c, try.r) {
				c, r, progress = try.c, try.r, true
				break
			}
		}
	}
	return c, r
}

type candidate[C, R any] struct {
	c C
	r R
}

// smaller returns what is one step smaller, the largest steps first.
func smaller(c *routeCase, r request) []candidate[*routeCase, request] {
	var out []candidate[*routeCase, request]
	add := func(change func(*routeCase)) {
		copied := c.clone()
		change(copied)
		out = append(out, candidate[*routeCase, request]{copied, r})
	}
	for i := range c.http {
		add(func(c *routeCase) { c.http = slices.Delete(c.http, i, i+1) })
	}
	for i := range c.grpc {
		add(func(c *routeCase) { c.grpc = slices.Delete(c.grpc, i, i+1) })
	}
	for i := range c.policies {
		add(func(c *routeCase) { c.policies = slices.Delete(c.policies, i, i+1) })
	}
	for i, route := range c.http {
		for j, rule := range route.Spec.Rules {
			at := func(c *routeCase) *gatewayv1.HTTPRouteRule { return &c.http[i].Spec.Rules[j] }
			if len(route.Spec.Rules) > 1 {
				add(func(c *routeCase) { c.http[i].Spec.Rules = slices.Delete(c.http[i].Spec.Rules, j, j+1) })
			}
			for k := range rule.Filters {
				add(func(c *routeCase) { at(c).Filters = slices.Delete(at(c).Filters, k, k+1) })
			}
			for k, ref := range rule.BackendRefs {
				add(func(c *routeCase) { at(c).BackendRefs = slices.Delete(at(c).BackendRefs, k, k+1) })
				if len(ref.Filters) > 0 {
					add(func(c *routeCase) { at(c).BackendRefs[k].Filters = nil })
				}
			}
			for k, m := range rule.Matches {
				if len(rule.Matches) > 1 {
					add(func(c *routeCase) { at(c).Matches = slices.Delete(at(c).Matches, k, k+1) })
				}
				for l := range m.Headers {
					add(func(c *routeCase) { at(c).Matches[k].Headers = slices.Delete(at(c).Matches[k].Headers, l, l+1) })
				}
				for l := range m.QueryParams {
					add(func(c *routeCase) { at(c).Matches[k].QueryParams = slices.Delete(at(c).Matches[k].QueryParams, l, l+1) })
				}
				if m.Method != nil {
					add(func(c *routeCase) { at(c).Matches[k].Method = nil })
				}
			}
			if rule.Timeouts != nil || rule.Retry != nil {
				add(func(c *routeCase) { at(c).Timeouts, at(c).Retry = nil, nil })
			}
		}
	}
	for i, route := range c.grpc {
		for j, rule := range route.Spec.Rules {
			at := func(c *routeCase) *gatewayv1.GRPCRouteRule { return &c.grpc[i].Spec.Rules[j] }
			if len(route.Spec.Rules) > 1 {
				add(func(c *routeCase) { c.grpc[i].Spec.Rules = slices.Delete(c.grpc[i].Spec.Rules, j, j+1) })
			}
			for k := range rule.Filters {
				add(func(c *routeCase) { at(c).Filters = slices.Delete(at(c).Filters, k, k+1) })
			}
			for k := range rule.BackendRefs {
				add(func(c *routeCase) { at(c).BackendRefs = slices.Delete(at(c).BackendRefs, k, k+1) })
			}
			for k, m := range rule.Matches {
				add(func(c *routeCase) { at(c).Matches = slices.Delete(at(c).Matches, k, k+1) })
				if len(m.Headers) > 0 {
					add(func(c *routeCase) { at(c).Matches[k].Headers = nil })
				}
			}
		}
	}
	if len(c.ports) > 1 {
		for i := range c.ports {
			add(func(c *routeCase) { c.ports = slices.Delete(c.ports, i, i+1) })
		}
	}
	if c.shift != nil {
		add(func(c *routeCase) { c.shift = nil })
	}
	if c.instances {
		add(func(c *routeCase) { c.instances, c.home = false, "Pods" })
	}
	for i := range r.Headers {
		less := r
		less.Headers = slices.Delete(slices.Clone(r.Headers), i, i+1)
		out = append(out, candidate[*routeCase, request]{c, less})
	}
	return out
}

// clone returns a copy that shares nothing that shrinking changes.
func (c *routeCase) clone() *routeCase {
	out := *c
	out.ports = slices.Clone(c.ports)
	out.http, out.grpc, out.policies = nil, nil, nil
	for _, r := range c.http {
		out.http = append(out.http, r.DeepCopy())
	}
	for _, r := range c.grpc {
		out.grpc = append(out.grpc, r.DeepCopy())
	}
	for _, p := range c.policies {
		out.policies = append(out.policies, p.DeepCopy())
	}
	return &out
}
