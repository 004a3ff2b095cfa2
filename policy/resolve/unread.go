package resolve

import (
	"cmp"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/routing"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// requestRoutes are the kinds of routes about requests. Without a rule of such a route that cannot be
// read, requests fall to rules that were not written for them.
var requestRoutes = []string{discovery.KindGRPCRoute, discovery.KindHTTPRoute}

// unreadRoute is a route that is, or may be, attached to a parent and that its source cannot read.
type unreadRoute struct {
	namespace string
	hosts     []string
	why       string
}

// unreadRoutes returns the routes about requests that may be attached to a parent and cannot be read.
// Those of which not even the parents can be read may be about any parent of their own namespace.
func unreadRoutes(r catalog.Reader, parent discovery.ObjectName) []unreadRoute {
	var out []unreadRoute
	for _, kind := range requestRoutes {
		st, ok := catalog.Sources.Get(r, discovery.KubernetesSource(kind))
		if !ok {
			continue
		}
		for _, u := range st.UnreadAbout(parent) {
			out = append(out, unreadRoute{u.Namespace, u.Hosts, kind + " cannot be read: " + u.String()})
		}
		if st.UnreadAll != "" {
			out = append(out, unreadRoute{parent.Namespace, nil, kind + " cannot be read: " + st.UnreadAll})
		}
	}
	return out
}

// unknownRule takes every request where it is not known which rules hold. Proxies keep the
// rules that they have, and those that have none answer 503.
func unknownRule(why string) policy.Rule {
	return policy.Rule{
		Match: policy.Match{Path: policy.PathMatch{Kind: policy.PathPrefix, Value: "/"}},
		Backends: []policy.Backend{{
			Index: -1, Kind: policy.ServiceBackend, Weight: 1, Share: policy.ShareTotal, Unknown: why,
		}},
	}
}

// attachUnread replaces the rules of a Service's HTTP ports that a route which cannot be read may have a part in.
func attachUnread(r catalog.Reader, m *policy.Service) {
	for _, u := range unreadRoutes(r, policy.ServiceUnit(m.Key)) {
		for i := range m.Ports {
			p := &m.Ports[i]
			if p.Protocol == policy.TCP {
				continue
			}
			unknown := &policy.HTTPRoutes{Rules: []policy.Rule{unknownRule(u.why)}}
			if u.namespace == m.Namespace {
				p.HTTP = unknown
			} else {
				p.ConsumerHTTP = with(p.ConsumerHTTP, u.namespace, unknown)
			}
		}
	}
}

// unreadAt returns what a route that cannot be read is at a listener of a Gateway, and the names that it may
// have there; nil where the listener does not let it in.
func (b *gatewayBuilder) unreadAt(u *unreadRoute, l *listenerMeaning) (*heldRoute, []string) {
	if !l.allowsNamespace(b.r, b.gateway.object.Namespace, u.namespace) {
		return nil, nil
	}
	object := &discovery.Object{Key: discovery.Key{Namespace: u.namespace}}
	held := &heldRoute{
		gatewayRoute: &gatewayRoute{object: object, hostnames: u.hosts}, unread: u.why,
		rules: []routing.RankedRule{{Rule: unknownRule(u.why)}},
	}
	return held, commonHostnames(l, u.hosts, len(u.hosts) > 0)
}

// touchedByUnread yields what an object may be about that cannot be read, or could not
// be: what is said of it is not known.
func touchedByUnread(r catalog.Reader, before, after any, yield func(policy.Unit)) {
	old, _ := before.(*discovery.SourceStatus)
	now, _ := after.(*discovery.SourceStatus)
	row := cmp.Or(now, old)
	if row == nil || discovery.SameUnread(old, now) {
		return
	}
	about := func(name discovery.ObjectName) bool {
		return slices.ContainsFunc([]*discovery.SourceStatus{old, now}, func(s *discovery.SourceStatus) bool {
			return s != nil && (s.UnreadAll != "" || len(s.UnreadAbout(name)) > 0)
		})
	}
	services := func(also func(discovery.Key) bool) {
		for svc := range catalog.Services.All(r) {
			if about(policy.ServiceUnit(svc.Key)) || also != nil && also(svc.Key) {
				yield(policy.ServiceUnit(svc.Key))
			}
		}
	}
	objects := func(kind string) {
		for o := range catalog.Objects.By(r, catalog.ByKind, kind) {
			if about(o.Name()) {
				yield(o.Name())
			}
		}
	}
	switch row.Name {
	case discovery.GroupsSource, discovery.ShiftsSource, discovery.KubernetesSource(discovery.KindBackendTLSPolicy):
		services(nil)
	case discovery.KubernetesSource(discovery.KindTrafficPolicy):
		services(func(service discovery.Key) bool {
			for g := range catalog.InstanceGroups.Of(r, service) {
				if about(discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: g.Key}) {
					return true
				}
			}
			return false
		})
		objects(discovery.KindExternalService)
	case discovery.KubernetesSource(discovery.KindHTTPRoute), discovery.KubernetesSource(discovery.KindGRPCRoute):
		services(nil)
		objects(discovery.KindGateway)
	}
}

// unreadFindings says what of a Service is not known because an object cannot be read.
func unreadFindings(r catalog.Reader, obj discovery.ObjectRef, m *policy.Service) []policy.Finding {
	var out []policy.Finding
	add := func(message string) {
		out = append(out, policy.Finding{
			Severity: policy.Error, Object: obj, Field: "spec.ports",
			Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonUnread,
			Message: message, Remedy: "repair or delete the object, or apply the CRD of this release",
		})
	}
	if why := upstream.UnreadBackingTLS(r, m.Key, discovery.Instances, ""); why != "" && slices.ContainsFunc(m.Ports, tlsUnknown) {
		add("whether callers speak TLS is not known: proxies go on as they did, and new ones answer 503: " + why)
	}
	for _, u := range unreadRoutes(r, policy.ServiceUnit(m.Key)) {
		add("which rules hold is not known: proxies keep what they have, and new ones answer 503: " + u.why)
	}
	return out
}

func tlsUnknown(p policy.Port) bool {
	return slices.ContainsFunc(p.Backings, func(b policy.Backing) bool { return b.TLS != nil && b.TLS.Unknown })
}

// unreadMesh says that what InstanceGroups may name is not known, nil where it is.
func unreadMesh(r catalog.Reader) []v1alpha1.FieldError {
	if why := effective.UnreadMesh(r); why != "" {
		return v1alpha1.UnreadMesh(why)
	}
	return nil
}
