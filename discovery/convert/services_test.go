package convert

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func TestService(t *testing.T) {
	grpc := "grpc"
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "web", Name: "php-web", Generation: 4, Annotations: map[string]string{v1alpha1.HomeAnnotation: "Pods"},
		},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1", "fd00::1"},
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP},
				{Name: "api", Port: 90, AppProtocol: &grpc},
				{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
			},
		},
	}
	require.Equal(t, &discovery.Service{
		Scope: "k", Key: discovery.Key{Namespace: "web", Name: "php-web"}, ClusterIPs: []string{"10.0.0.1", "fd00::1"},
		Ports: []discovery.ServicePort{{Name: "http", Port: 80}, {Name: "api", Port: 90, AppProtocol: "grpc"}},
		Home:  "Pods", Generation: 4,
	}, Service(s, "k"))

	s.Spec = corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, ClusterIPs: []string{corev1.ClusterIPNone}}
	require.Empty(t, Service(s, "k").ClusterIPs, "headless")
	s.Spec = corev1.ServiceSpec{ClusterIP: "10.0.0.1"}
	require.Equal(t, []string{"10.0.0.1"}, Service(s, "k").ClusterIPs, "what a file may say")
	s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "php.example.com"}
	require.Equal(t, "php.example.com", Service(s, "k").ExternalName)
}

func podSlice(endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "web", Name: "s1", Labels: map[string]string{discoveryv1.LabelServiceName: "php-web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
		Endpoints:   endpoints,
	}
}

func TestConditionsOfAnEndpoint(t *testing.T) {
	yes, no := new(true), new(false)
	for _, c := range []struct {
		ready, serving, terminating *bool
		want                        string // "" for one that is left out
	}{
		{nil, nil, nil, "HEALTHY"},
		{yes, yes, no, "HEALTHY"},
		{yes, nil, nil, "HEALTHY"},
		{no, no, no, "UNHEALTHY"},
		{no, nil, nil, "UNHEALTHY"},
		{no, yes, no, "UNHEALTHY"},
		{no, yes, yes, "DRAINING"},
		{no, nil, yes, "DRAINING"},
		{no, no, yes, ""},
		// publishNotReadyAddresses makes everything ready.
		{yes, no, no, "HEALTHY"},
		{yes, yes, yes, "DRAINING"},
		{yes, no, yes, "DRAINING"},
	} {
		set := EndpointSlice(podSlice(discoveryv1.Endpoint{
			Addresses:  []string{"10.0.0.1", "10.0.0.2"},
			Conditions: discoveryv1.EndpointConditions{Ready: c.ready, Serving: c.serving, Terminating: c.terminating},
		}), "k")
		got := ""
		for _, e := range set.Endpoints {
			got = e.Health.String()
			require.Equal(t, "10.0.0.1", e.Address)
			require.Equal(t, e.Health == discovery.Healthy, e.Reason == "")
		}
		text, _ := json.Marshal([]*bool{c.ready, c.serving, c.terminating})
		require.Equal(t, c.want, got, "ready, serving, terminating: %s", text)
	}
}

func TestIdentityOfAnEndpoint(t *testing.T) {
	for want, target := range map[string]*corev1.ObjectReference{
		"10.0.0.1":  nil,
		"web/php-1": {Kind: "Pod", Name: "php-1"},
		"ops/php-1": {Kind: "Pod", Name: "php-1", Namespace: "ops"},
	} {
		set := EndpointSlice(podSlice(discoveryv1.Endpoint{
			Addresses: []string{"10.0.0.1"}, TargetRef: target, Zone: new("z"), NodeName: new("n"), Hostname: new("php-1"),
		}), "k")
		require.Equal(t, []discovery.Endpoint{{ID: want, Address: "10.0.0.1", Zone: "z", Node: "n", Hostname: "php-1"}}, set.Endpoints)
	}
	set := EndpointSlice(podSlice(discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}, TargetRef: &corev1.ObjectReference{}}), "k")
	require.Equal(t, "10.0.0.1", set.Endpoints[0].ID, "a reference that names nothing")
}

func TestSlicesThatSayNothing(t *testing.T) {
	s := podSlice(discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}}, discoveryv1.Endpoint{})
	require.Len(t, EndpointSlice(s, "k").Endpoints, 1, "an endpoint without an address is none")
	s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: new("all")}, discoveryv1.EndpointPort{Name: new("dns"), Port: new(int32(53)), Protocol: new(corev1.ProtocolUDP)})
	require.Equal(t, []discovery.EndpointPort{{Name: "http", Port: 8080}}, EndpointSlice(s, "k").Ports)
	s.AddressType = discoveryv1.AddressTypeFQDN
	require.Nil(t, EndpointSlice(s, "k"))
	s.AddressType, s.Labels = discoveryv1.AddressTypeIPv4, nil
	require.Nil(t, EndpointSlice(s, "k"))
}

// What is published as slices must read back as the same endpoints, however
// they are cut up.
func TestPublishedSlicesReadBack(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 3)) //nolint:gosec // reproducible on purpose
		set := &discovery.EndpointSet{
			Scope: "k", Key: discovery.Key{Namespace: "web", Name: "ec2"}, Service: discovery.Key{Namespace: "web", Name: "php-web"},
			Platform: discovery.Instances, Group: "ec2", Ports: []discovery.EndpointPort{{Name: "http", Port: 8080}, {Name: "", Port: 9000}},
		}
		for i := range rnd.IntN(40) {
			e := discovery.Endpoint{
				ID: fmt.Sprintf("i-%03d", i), Address: fmt.Sprintf("10.0.0.%d", i), Zone: fmt.Sprintf("z%d", rnd.IntN(3)),
				Spot: rnd.IntN(2) == 0, Weight: uint32(rnd.IntN(3)), Health: discovery.Health(rnd.IntN(3)), //nolint:gosec // small
			}
			if rnd.IntN(4) == 0 {
				e.Address = fmt.Sprintf("fd00::%d", i)
			}
			if e.Health != discovery.Healthy {
				e.Reason = fmt.Sprintf("Because: %d", i)
			}
			set.Endpoints = append(set.Endpoints, e)
		}
		shuffled := *set
		shuffled.Endpoints = slices.Clone(set.Endpoints)
		rnd.Shuffle(len(set.Endpoints), func(i, j int) {
			shuffled.Endpoints[i], shuffled.Endpoints[j] = shuffled.Endpoints[j], shuffled.Endpoints[i]
		})
		published := Slices(set, nil, 7)
		require.Empty(t, cmp.Diff(published, Slices(&shuffled, nil, 7)), "the same slices whatever the order")
		var back []discovery.Endpoint
		for i := range published {
			published[i].Namespace = "web"
			got := EndpointSlice(&published[i], "k")
			require.LessOrEqual(t, len(got.Endpoints), 7)
			require.Equal(t, set.Ports, got.Ports)
			require.Equal(t, set.Service, got.Service)
			require.Equal(t, discovery.Instances, got.Platform)
			require.Equal(t, "ec2", got.Group)
			back = append(back, got.Endpoints...)
		}
		slices.SortFunc(back, func(a, b discovery.Endpoint) int { return strings.Compare(a.ID, b.ID) })
		require.Empty(t, cmp.Diff(set.Endpoints, back), "seed %d", seed)
	}
}
