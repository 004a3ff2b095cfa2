package equivalence

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// routeCase is one Service with the routes that are attached to it, and the
// requests to send. Its name is new with every push, so that Envoy's answer
// cannot come from an earlier one; "$" stands for it in hosts.
type routeCase struct {
	index     int
	name      string
	namespace string
	ports     []discovery.ServicePort
	instances bool // the Service has them besides pods
	home      string
	// local and distribution are what the Service says of its callers' nodes, and node is where its pod runs.
	local              bool
	distribution, node string
	http               []*gatewayv1.HTTPRoute
	grpc               []*gatewayv1.GRPCRoute
	policies           []*v1alpha1.TrafficPolicy
	shift              *v1alpha1.TrafficShift // of the Service, with its status; nil for none
	requests           []request
	fixture            fixture
}

// placeholder stands for the Service's name.
const placeholder = "$"

func (c *routeCase) key() discovery.Key { return discovery.Key{Namespace: c.namespace, Name: c.name} }

// sent returns a request as it goes over the wire.
func (c *routeCase) sent(r request) request {
	r.Host = strings.ReplaceAll(r.Host, placeholder, c.name)
	r.Hosts = slices.Clone(r.Hosts)
	for i := range r.Hosts {
		r.Hosts[i] = strings.ReplaceAll(r.Hosts[i], placeholder, c.name)
	}
	r.Headers = slices.Clone(r.Headers)
	for i := range r.Headers {
		r.Headers[i].Value = strings.ReplaceAll(r.Headers[i].Value, placeholder, c.name)
	}
	return r
}

func (c *routeCase) asked(r request) explain.Request {
	return c.sent(r).asked(explain.Workload{Namespace: callerNamespace, Zone: callerZone, Node: callerNode})
}

// rowsOf returns the rows of cases, and of a Service whose presence tells that
// they are there.
func rowsOf(marker string, cases []*routeCase) (services []*discovery.Service, sets []*discovery.EndpointSet, objects []*discovery.Object, states []*discovery.ShiftState) {
	for _, c := range cases {
		services = append(services, &discovery.Service{
			Scope: casesScope, Key: c.key(), Ports: c.ports, Home: c.home, LocalTraffic: c.local, Distribution: c.distribution,
		})
		set := func(platform discovery.BackingName, id string, port uint16) {
			s := &discovery.EndpointSet{
				Scope: casesScope, Key: discovery.Key{Namespace: c.namespace, Name: c.name + "-" + platform.String()},
				Service: c.key(), Platform: platform,
				Endpoints: []discovery.Endpoint{{ID: id, Address: "127.0.0.1", Zone: callerZone, Node: c.node}},
			}
			for _, p := range c.ports {
				to := port
				if p.AppProtocol != "" {
					to = c.fixture.selfRPC
				}
				s.Ports = append(s.Ports, discovery.EndpointPort{Name: p.Name, Port: to})
			}
			sets = append(sets, s)
		}
		set(discovery.Pods, "self", c.fixture.self)
		if c.instances {
			set(discovery.Instances, "self-instances", c.fixture.selfInstances)
		}
		objects = append(objects, c.objects()...)
		if c.shift != nil {
			c.shift.Name, c.shift.Spec.ServiceRef.Name = c.name, c.name
			object, state := shiftRows(casesScope, c.shift.DeepCopy())
			objects, states = append(objects, object), append(states, state)
		}
	}
	key := discovery.Key{Namespace: callerNamespace, Name: marker}
	services = append(services, &discovery.Service{Scope: casesScope, Key: key, Ports: []discovery.ServicePort{{Port: 80}}})
	if len(cases) > 0 {
		sets = append(sets, &discovery.EndpointSet{
			Scope: casesScope, Key: key, Service: key, Platform: discovery.Pods, Ports: []discovery.EndpointPort{{Port: cases[0].fixture.self}},
			Endpoints: []discovery.Endpoint{{ID: "self", Address: "127.0.0.1"}},
		})
	}
	return services, sets, objects, states
}

// objects returns the rows of the routes and policies, for the Service as it is named now.
func (c *routeCase) objects() []*discovery.Object {
	var out []*discovery.Object
	row := func(kind string, meta *metav1.ObjectMeta, spec any, refs []discovery.ObjectName) {
		slices.SortFunc(refs, func(a, b discovery.ObjectName) int { return cmp.Compare(a.String(), b.String()) })
		out = append(out, &discovery.Object{
			Scope: casesScope, Kind: kind, Key: discovery.Key{Namespace: meta.Namespace, Name: meta.Name},
			Generation: 1, Created: meta.CreationTimestamp.Time, Spec: spec, Refs: slices.Compact(refs),
		})
	}
	for _, r := range c.http {
		r := r.DeepCopy()
		r.Name = c.name + "-" + r.Name
		refs := c.adopt(r.Namespace, r.Spec.ParentRefs)
		for i := range r.Spec.Rules {
			rule := &r.Spec.Rules[i]
			refs = append(refs, mirrorRefs(r.Namespace, rule.Filters)...)
			for j := range rule.BackendRefs {
				refs = append(refs, refName(r.Namespace, &rule.BackendRefs[j].BackendObjectReference))
			}
		}
		row("HTTPRoute", &r.ObjectMeta, r, refs)
	}
	for _, r := range c.grpc {
		r := r.DeepCopy()
		r.Name = c.name + "-" + r.Name
		refs := c.adopt(r.Namespace, r.Spec.ParentRefs)
		for i := range r.Spec.Rules {
			for j := range r.Spec.Rules[i].BackendRefs {
				refs = append(refs, refName(r.Namespace, &r.Spec.Rules[i].BackendRefs[j].BackendObjectReference))
			}
		}
		row("GRPCRoute", &r.ObjectMeta, r, refs)
	}
	for _, p := range c.policies {
		p := p.DeepCopy()
		if p.Spec.TargetRefs[0].Kind == "Service" && p.Namespace != c.namespace {
			continue
		}
		p.Name = c.name + "-" + p.Name
		var refs []discovery.ObjectName
		for i := range p.Spec.TargetRefs {
			t := &p.Spec.TargetRefs[i]
			if t.Kind == "Service" {
				t.Name = c.name
			} else {
				t.Name = c.name + "-" + t.Name
			}
			refs = append(refs, discovery.ObjectName{Kind: t.Kind, Key: discovery.Key{Namespace: p.Namespace, Name: t.Name}})
		}
		row("TrafficPolicy", &p.ObjectMeta, p, refs)
	}
	return out
}

// adopt makes the case's Service the parent.
func (c *routeCase) adopt(namespace string, parents []gatewayv1.ParentReference) []discovery.ObjectName {
	var out []discovery.ObjectName
	for i := range parents {
		parents[i].Name = gatewayv1.ObjectName(c.name)
		key := discovery.Key{Namespace: namespace, Name: c.name}
		if parents[i].Namespace != nil {
			key.Namespace = string(*parents[i].Namespace)
		}
		out = append(out, discovery.ObjectName{Kind: "Service", Key: key})
	}
	return out
}

func mirrorRefs(namespace string, filters []gatewayv1.HTTPRouteFilter) []discovery.ObjectName {
	var out []discovery.ObjectName
	for i := range filters {
		if m := filters[i].RequestMirror; m != nil {
			out = append(out, refName(namespace, &m.BackendRef))
		}
	}
	return out
}

func refName(namespace string, ref *gatewayv1.BackendObjectReference) discovery.ObjectName {
	out := discovery.ObjectName{Kind: "Service", Key: discovery.Key{Namespace: namespace, Name: string(ref.Name)}}
	if ref.Kind != nil {
		out.Kind = string(*ref.Kind)
	}
	if ref.Namespace != nil {
		out.Namespace = string(*ref.Namespace)
	}
	return out
}

// String returns the case as a person would write it down, with one request.
func (c *routeCase) text(r request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Service %s: ports %+v, instances %t, home %q\n", c.key(), c.ports, c.instances, c.home)
	for _, o := range c.objects() {
		text, err := yaml.Marshal(o.Spec)
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&b, "--- %s (created %s)\n%s", o.Kind, o.Created.UTC().Format("15:04:05"), text)
	}
	if c.shift != nil {
		text, err := yaml.Marshal(c.shift)
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&b, "--- TrafficShift\n%s", text)
	}
	fmt.Fprintf(&b, "--- request\n%s", strings.ReplaceAll(c.sent(r).String(), "\r\n", "\n"))
	return b.String()
}
