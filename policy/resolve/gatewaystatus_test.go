package resolve

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/golden"
	testrows "github.com/causeway-mesh/causeway/test/rows"
)

// The cases of testdata/gatewaystatus say what becomes of the status of
// Gateways, their classes, policies and routes, and what validate says of them.
func TestGatewayStatusGolden(t *testing.T) {
	cases := golden.Cases{Files: "testdata/gatewaystatus/*.txtar", Given: []string{routeObjects}, Made: []string{routeStatus, routeFindings}}
	cases.Run(t, func(t *testing.T, given map[string]string) map[string]string {
		t.Helper()
		return inAnyOrder(t, testrows.Parse(t, given[routeObjects]), func(r catalog.Reader) map[string]string { return renderGatewayStatus(t, r) })
	})
}

func renderGatewayStatus(tb testing.TB, r catalog.Reader) map[string]string {
	tb.Helper()
	var status, findings strings.Builder
	render := func(indent string, generation int64, conditions []metav1.Condition) {
		for _, c := range conditions {
			require.Equal(tb, generation, c.ObservedGeneration)
			fmt.Fprintf(&status, "%s%s=%s/%s: %s\n", indent, c.Type, c.Status, c.Reason, c.Message)
		}
	}
	for _, kind := range append([]string{discovery.KindGatewayClass, discovery.KindGateway, discovery.KindGatewayPolicy, discovery.KindTrafficPolicy}, routeKinds...) {
		for o := range catalog.Objects.By(r, catalog.ByKind, kind) {
			s, ok := StatusOf(r, o)
			require.True(tb, ok)
			switch {
			case s.Class != nil:
				fmt.Fprintf(&status, "%s with %d features\n", o.Name(), len(s.Class.SupportedFeatures))
				render("  ", o.Generation, s.Class.Conditions)
			case s.Gateway != nil:
				fmt.Fprintf(&status, "%s\n", o.Name())
				for _, a := range s.Gateway.Addresses {
					fmt.Fprintf(&status, "  address %s %s\n", *a.Type, a.Value)
				}
				render("  ", o.Generation, s.Gateway.Conditions)
				for _, l := range s.Gateway.Listeners {
					kinds := make([]string, len(l.SupportedKinds))
					for i, k := range l.SupportedKinds {
						kinds[i] = string(k.Kind)
					}
					fmt.Fprintf(&status, "  listener %s for %v with %d routes\n", l.Name, kinds, l.AttachedRoutes)
					render("    ", o.Generation, l.Conditions)
				}
			case len(s.Conditions) > 0:
				fmt.Fprintf(&status, "%s\n", o.Name())
				render("  ", o.Generation, s.Conditions)
			case len(s.Parents) == 0:
				fmt.Fprintf(&status, "%s: not ours to judge\n", o.Name())
			}
			for _, p := range s.Parents {
				ref, err := json.Marshal(p.ParentRef)
				require.NoError(tb, err)
				fmt.Fprintf(&status, "%s at %s\n", o.Name(), ref)
				render("  ", o.Generation, p.Conditions)
			}
		}
	}
	for _, f := range Validate(r) {
		if f.Object.Kind != discovery.KindService {
			fmt.Fprintf(&findings, "%s\n", f)
		}
	}
	return map[string]string{routeStatus: status.String(), routeFindings: findings.String()}
}

func TestSupportedFeatures(t *testing.T) {
	got := supportedFeatures(true)
	require.Len(t, got, len(supportedFeatures(false))+2)
	require.True(t, slices.IsSortedFunc(got, func(a, b gatewayv1.SupportedFeature) int { return strings.Compare(string(a.Name), string(b.Name)) }))
	require.Equal(t, got, slices.Compact(slices.Clone(got)), "a feature stands twice")
	require.LessOrEqual(t, len(got), 64, "a status has room for no more")
	for _, f := range got {
		require.NotContains(t, f.Name, "Mesh")
		require.NotContains(t, f.Name, "UDP")
	}
}

// reasons are those that gateway_types.go and shared_types.go know for
// conditions that are not as they should be, and those that policies here add.
var reasons = map[string][]string{
	"Gateway/Accepted":              {"Accepted", "ListenersNotValid", "InvalidParameters", "UnsupportedAddress"},
	"Gateway/ResolvedRefs":          {"ResolvedRefs", "ListenersNotResolved"},
	"Gateway/Programmed":            {"Invalid", "AddressNotAssigned", "AddressNotUsable", "NoResources"},
	"Listener/Accepted":             {"Accepted", "UnsupportedProtocol", "UnsupportedValue", "PortUnavailable"},
	"Listener/Conflicted":           {"NoConflicts", "HostnameConflict", "ProtocolConflict"},
	"Listener/ResolvedRefs":         {"ResolvedRefs", "InvalidCertificateRef", "InvalidRouteKinds", "RefNotPermitted"},
	"Listener/Programmed":           {"Invalid"},
	"Listener/OverlappingTLSConfig": {"OverlappingHostnames"},
	"Route/Accepted": {
		"Accepted", "NotAllowedByListeners", "NoMatchingListenerHostname", "NoMatchingParent", "UnsupportedValue", "IncompatibleFilters", policy.ReasonConflicted,
	},
	"Route/ResolvedRefs":     {"ResolvedRefs", "RefNotPermitted", "InvalidKind", "BackendNotFound", "UnsupportedProtocol"},
	"Route/PartiallyInvalid": {"UnsupportedValue", "IncompatibleFilters"},
}

// Over random Gateways and routes, status keeps to the words of the
// specification, counts the routes that say they are attached, and says that a
// listener cannot be in force if and only if the model does not have it, or has it without any
// certificate that can be used.
func TestGatewayStatusKeepsItsPromises(t *testing.T) {
	pairs := []map[string][]byte{tlsPair(t, "foo.example.com"), tlsPair(t, "*.com")}
	seen := make(map[string]int)
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 21))
		cat := catalog.New()
		_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
			for range 20 {
				putRandomEdgeRow(rnd, tx, pairs)
				putOrDelete(tx, randomEdgeRoute(rnd), false)
				putOrDelete(tx, randomEdgeRoute(rnd), false)
			}
			return nil
		})
		require.NoError(t, err)
		r := cat.Read()
		statuses := NewStatuses(r)
		check := func(what string, generation int64, conditions []metav1.Condition) {
			for _, c := range conditions {
				require.Equal(t, generation, c.ObservedGeneration)
				require.NotEmpty(t, c.Message)
				require.Contains(t, reasons[what+"/"+c.Type], c.Reason, "seed %d: %s %s: %s", seed, what, c.Type, c.Message)
				seen[what+"/"+c.Type+"="+string(c.Status)+"/"+c.Reason]++
			}
		}
		attached := make(map[string]int32)
		for _, kind := range routeKinds {
			for o := range catalog.Objects.By(r, catalog.ByKind, kind) {
				s, _ := statuses.StatusOf(o)
				alone, _ := StatusOf(r, o)
				require.Equal(t, alone, s)
				at := make(map[string]bool)
				for _, p := range s.Parents {
					check("Route", o.Generation, p.Conditions)
					key, ok := parentGateway(o, &p.ParentRef)
					if !ok || p.Conditions[0].Status != metav1.ConditionTrue {
						continue
					}
					_, where, _ := strings.Cut(p.Conditions[0].Message, "attached to listener ")
					where, _, _ = strings.Cut(where, " of Gateway")
					for text := range strings.SplitSeq(where, ", ") {
						name, _, _ := strings.Cut(text, " ")
						at[key.String()+"/"+name] = true
					}
				}
				for listener := range at {
					attached[listener]++
				}
			}
		}
		for o := range catalog.Objects.By(r, catalog.ByKind, discovery.KindGateway) {
			s, _ := statuses.StatusOf(o)
			m := BuildGateway(r, o.Key)
			if s.Gateway == nil {
				require.Nil(t, m)
				continue
			}
			check("Gateway", o.Generation, s.Gateway.Conditions)
			if m != nil {
				require.Equal(t, metav1.ConditionTrue, s.Gateway.Conditions[0].Status, "seed %d", seed)
			}
			usable := usableListeners(m)
			for _, l := range s.Gateway.Listeners {
				check("Listener", o.Generation, l.Conditions)
				require.LessOrEqual(t, len(l.Conditions), 8)
				never := slices.ContainsFunc(l.Conditions, func(c metav1.Condition) bool { return c.Type == v1alpha1.ConditionProgrammed })
				require.Equal(t, usable[string(l.Name)], !never, "seed %d: %s %s: %+v", seed, o.Key, l.Name, l.Conditions)
				if !slices.ContainsFunc(l.Conditions, func(c metav1.Condition) bool { return strings.Contains(c.Message, "is named") }) {
					require.Equal(t, attached[o.Key.String()+"/"+string(l.Name)], l.AttachedRoutes, "seed %d: %s %s", seed, o.Key, l.Name)
				}
			}
		}
	}
	for _, want := range []string{
		"Gateway/Accepted=True/Accepted", "Gateway/Accepted=True/ListenersNotValid", "Listener/Conflicted=True/HostnameConflict",
		"Listener/ResolvedRefs=False/InvalidCertificateRef", "Route/Accepted=False/NotAllowedByListeners", "Route/Accepted=False/NoMatchingListenerHostname",
		"Route/Accepted=False/NoMatchingParent",
	} {
		require.Positive(t, seen[want], "%s: %v", want, seen)
	}
}

// usableListeners returns the listeners of a model that take connections, by name.
func usableListeners(m *policy.Gateway) map[string]bool {
	out := make(map[string]bool)
	if m == nil {
		return out
	}
	failed := make(map[string]bool)
	for i := range m.Certificates {
		failed[m.Certificates[i].Name] = m.Certificates[i].Failed != ""
	}
	for i := range m.Ports {
		for _, l := range m.Ports[i].Listeners {
			out[l.Name] = !l.Terminates || slices.ContainsFunc(l.Certificates, func(name string) bool { return !failed[name] })
		}
	}
	return out
}
