package edges

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/status"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// leading is a replica that leads, as far as Gateways go.
type leading struct {
	t      *testing.T
	kube   *kubetest.Kube
	client kubernetes.Interface
	*meshtest.Replica
	stop func()
	// members are the namespaces in which proxies verify the control plane by what it publishes.
	members sync.Map
}

func (l *leading) member(namespace string) { l.members.Store(namespace, true) }

func lead(t *testing.T, kube *kubetest.Kube) *leading {
	t.Helper()
	l := &leading{t: t, kube: kube, client: kube.Client(t), Replica: newReplica(t, kube)}
	reg := prometheus.NewRegistry()
	// Proxies are all connected, and have all that there is.
	w := status.NewWriter(l.Client, func(r catalog.Reader) func(*discovery.Object) (discovery.Status, bool) {
		return resolve.NewStatuses(r).StatusOf
	},
		func(ref discovery.ObjectRef) (metav1.Condition, bool) {
			return metav1.Condition{Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionTrue, Reason: "Programmed", ObservedGeneration: ref.Generation}, true
		}, nil, reg)
	metrics := NewMetrics(reg)
	edges := meshtest.Run(t, func(ctx context.Context) error {
		return Run(ctx, l.Client, l.Catalog, Options{Edges: resolve.Edges, Audience: "causeway", Member: l.member, Metrics: metrics})
	})
	statuses := meshtest.Run(t, func(ctx context.Context) error { return w.Run(ctx, l.Catalog) })
	l.stop = func() {
		edges()
		statuses()
	}
	return l
}

// says waits until the condition Programmed of a Gateway is as it should be: "Status/Reason: a part of the message".
func (l *leading) says(gateway, want string) *gatewayv1.Gateway {
	l.t.Helper()
	var g gatewayv1.Gateway
	harness.Eventually(l.t, 30*time.Second, gateway+" says "+want, func() error {
		raw, err := meshtest.API(l.t, l.kube).Get().AbsPath(meshtest.PathIn("Gateway", "web", gateway)).DoRaw(l.t.Context())
		if err != nil {
			return err
		}
		g = gatewayv1.Gateway{}
		if err := json.Unmarshal(raw, &g); err != nil {
			return err
		}
		c := apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionProgrammed)
		state, text, _ := strings.Cut(want, ": ")
		if c == nil || fmt.Sprintf("%s/%s", c.Status, c.Reason) != state || !strings.Contains(c.Message, text) || c.ObservedGeneration != g.Generation {
			return fmt.Errorf("it says %+v of generation %d, with addresses %v", g.Status.Conditions, g.Generation, g.Status.Addresses)
		}
		return nil
	})
	return &g
}

func (l *leading) service(name string) *corev1.Service {
	l.t.Helper()
	out, err := l.client.CoreV1().Services("web").Get(l.t.Context(), name, metav1.GetOptions{})
	require.NoError(l.t, err)
	return out
}

// await waits until something of the Deployment holds.
func (l *leading) await(name, what string, check func(*appsv1.Deployment) bool) *appsv1.Deployment {
	l.t.Helper()
	var out *appsv1.Deployment
	harness.Eventually(l.t, 30*time.Second, what, func() error {
		var err error
		if out, err = l.client.AppsV1().Deployments("web").Get(l.t.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		if !check(out) {
			return fmt.Errorf("it is %+v", out.Spec)
		}
		return nil
	})
	return out
}

// There waits until an object of the name is there, or is not.
func (l *leading) there(what string, want bool, get func() error) {
	l.t.Helper()
	harness.Eventually(l.t, 30*time.Second, what, func() error {
		switch err := get(); {
		case err == nil && !want:
			return errors.New("it is there")
		case apierrors.IsNotFound(err) && !want:
			return nil
		default:
			return err
		}
	})
}

const class = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: causeway}
spec:
  controllerName: mesh.causeway.dev/controller
  parametersRef: {group: mesh.causeway.dev, kind: GatewayParameters, name: causeway, namespace: causeway-system}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: causeway, namespace: causeway-system}
spec: {managed: true, image: "registry.example.com/causeway-agent:v1", service: {type: ClusterIP}}
`

const public = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: web}
spec:
  gatewayClassName: causeway
  infrastructure: {labels: {team: edge}, annotations: {example.com/cost: web}}
  listeners: [{name: http, port: 80, protocol: HTTP}]
`

// A Gateway gets all that it needs, with owner references and the address in its status. Its edits are carried
// out, what others change is put right, and what says the right thing is not written.
func TestManaged(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, class)
	kube.ApplyYAML(t, public)
	l := lead(t, kube)
	g := l.says("public", "True/Programmed")
	require.Len(t, g.Status.Addresses, 1)
	s := l.service("public-causeway")
	require.Equal(t, s.Spec.ClusterIP, g.Status.Addresses[0].Value)
	d := l.await("public-causeway", "a Deployment", func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 2 })
	account, err := l.client.CoreV1().ServiceAccounts("web").Get(t.Context(), "public-causeway", metav1.GetOptions{})
	require.NoError(t, err)
	budget, err := l.client.PolicyV1().PodDisruptionBudgets("web").Get(t.Context(), "public-causeway", metav1.GetOptions{})
	require.NoError(t, err)
	for _, o := range []metav1.Object{s, d, account, budget} {
		require.Equal(t, g.UID, metav1.GetControllerOf(o).UID)
		require.Equal(t, "edge", o.GetLabels()["team"])
		require.Equal(t, "web", o.GetAnnotations()["example.com/cost"])
		require.Equal(t, "public", o.GetLabels()[gatewayv1.GatewayNameLabelKey])
	}
	_, told := l.members.Load("web")
	require.True(t, told, "its pods verify the control plane")
	require.Equal(t, "edge", d.Spec.Template.Labels["team"])
	require.Equal(t, "web", d.Spec.Template.Annotations["example.com/cost"])

	// A listener more is a port more, and no new pods.
	kube.ApplyYAML(t, strings.Replace(public, "HTTP}]", "HTTP}, {name: more, port: 8080, protocol: HTTP}]", 1))
	harness.Eventually(t, 20*time.Second, "two ports", func() error {
		if s := l.service("public-causeway"); len(s.Spec.Ports) != 2 {
			return fmt.Errorf("%+v", s.Spec.Ports)
		}
		return nil
	})
	require.Equal(t, d.Generation, l.await("public-causeway", "the Deployment", func(*appsv1.Deployment) bool { return true }).Generation)
	require.Equal(t, s.Spec.ClusterIP, l.service("public-causeway").Spec.ClusterIP)

	// Parameters of the class change all, and those of the Gateway come before.
	kube.ApplyYAML(t, strings.Replace(class, "managed: true", "managed: true, replicas: 3", 1))
	l.await("public-causeway", "3 replicas", func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 3 })

	// A port that somebody takes out of the Service comes back at once, with whatever else was changed, and what others
	// add stays. So does the whole Service.
	_, err = l.client.CoreV1().Services("web").Patch(t.Context(), "public-causeway", types.MergePatchType, []byte(
		`{"metadata":{"annotations":{"example.com/other":"kept"}},"spec":{"selector":{"gateway.networking.k8s.io/gateway-name":"wrong"},"ports":[{"name":"other","port":9}]}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	harness.Eventually(t, 20*time.Second, "the ports and the selector", func() error {
		s := l.service("public-causeway")
		if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == 8080 }) || s.Spec.Selector[gatewayv1.GatewayNameLabelKey] != "public" ||
			s.Annotations["example.com/other"] != "kept" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	require.NoError(t, l.client.CoreV1().Services("web").Delete(t.Context(), "public-causeway", metav1.DeleteOptions{}))
	l.says("public", "True/Programmed")
	require.Equal(t, "public", l.service("public-causeway").Spec.Selector[gatewayv1.GatewayNameLabelKey])

	// A leader that comes next writes nothing.
	versions := func() map[string]string {
		return map[string]string{
			"service":    l.service("public-causeway").ResourceVersion,
			"deployment": l.await("public-causeway", "the Deployment", func(*appsv1.Deployment) bool { return true }).ResourceVersion,
		}
	}
	l.stop()
	before := versions()
	next := lead(t, kube)
	harness.Throughout(t, 2*time.Second, "that nothing is written", func() error {
		if now := versions(); !maps.Equal(before, now) {
			return fmt.Errorf("%v became %v", before, now)
		}
		return nil
	})

	// What is not managed any more stays, and nothing changes it.
	kube.ApplyYAML(t, strings.Replace(public, "namespace: web}", `namespace: web, annotations: {mesh.causeway.dev/managed: "false"}}`, 1))
	next.WaitRow(t, "Gateway web/public", "is not managed", func(o *discovery.Object) bool {
		return o.Spec.(*gatewayv1.Gateway).Annotations[v1alpha1.ManagedAnnotation] == "false"
	})
	kube.ApplyYAML(t, strings.Replace(class, "managed: true", "managed: true, replicas: 9", 1))
	harness.Throughout(t, 2*time.Second, "that the Deployment stays", func() error {
		if d := l.await("public-causeway", "the Deployment", func(*appsv1.Deployment) bool { return true }); *d.Spec.Replicas != 3 {
			return fmt.Errorf("it has %d", *d.Spec.Replicas)
		}
		return nil
	})
}

// An autoscaler takes over without a moment in which its Deployment has one replica, and gives back. A DaemonSet is
// there before the Deployment goes.
func TestManagedWorkloads(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, strings.Replace(class, "managed: true", "managed: true, replicas: 4", 1))
	kube.ApplyYAML(t, public)
	l := lead(t, kube)
	deployments := l.client.AppsV1().Deployments("web")
	autoscaler := func() error {
		_, err := l.client.AutoscalingV2().HorizontalPodAutoscalers("web").Get(t.Context(), "public-causeway", metav1.GetOptions{})
		return err
	}
	l.await("public-causeway", "4 replicas", func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 4 })
	var least int32 = 99
	watch, err := deployments.Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	seen := make(chan []int32)
	go func() {
		var all []int32
		for e := range watch.ResultChan() {
			if d, ok := e.Object.(*appsv1.Deployment); ok {
				all = append(all, *d.Spec.Replicas)
			}
		}
		seen <- all
	}()
	scaling := strings.Replace(class, "managed: true", "managed: true, autoscaling: {minReplicas: 2, maxReplicas: 9}", 1)
	kube.ApplyYAML(t, scaling)
	l.there("an autoscaler", true, autoscaler)
	_, err = deployments.UpdateScale(t.Context(), "public-causeway", &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: "public-causeway", Namespace: "web"}, Spec: autoscalingv1.ScaleSpec{Replicas: 7},
	}, metav1.UpdateOptions{FieldManager: "kube-controller-manager"})
	require.NoError(t, err)
	kube.ApplyYAML(t, strings.Replace(scaling, "image:", "tlsSecret: other, image:", 1)) // has the Deployment applied once more
	l.await("public-causeway", "what was changed, and the replicas that the autoscaler wants", func(d *appsv1.Deployment) bool {
		from := d.Spec.Template.Spec.Volumes[1].Secret
		return from != nil && from.SecretName == "other" && *d.Spec.Replicas == 7
	})
	kube.ApplyYAML(t, strings.Replace(class, "managed: true", "managed: true, replicas: 5", 1))
	l.await("public-causeway", "5 replicas", func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 5 })
	l.there("the autoscaler", false, autoscaler)
	watch.Stop()
	for _, n := range <-seen {
		least = min(least, n)
	}
	require.GreaterOrEqual(t, least, int32(4), "it had too few replicas for a moment")

	kube.ApplyYAML(t, strings.Replace(class, "managed: true", "managed: true, workload: DaemonSet", 1))
	daemonSet := func() error {
		_, err := l.client.AppsV1().DaemonSets("web").Get(t.Context(), "public-causeway", metav1.GetOptions{})
		return err
	}
	l.there("a DaemonSet", true, daemonSet)
	l.there("the budget", false, func() error {
		_, err := l.client.PolicyV1().PodDisruptionBudgets("web").Get(t.Context(), "public-causeway", metav1.GetOptions{})
		return err
	})
	harness.Throughout(t, 3*time.Second, "that the Deployment stays while no pod of the DaemonSet serves", func() error {
		_, err := deployments.Get(t.Context(), "public-causeway", metav1.GetOptions{})
		return err
	})
	d, err := l.client.AppsV1().DaemonSets("web").Get(t.Context(), "public-causeway", metav1.GetOptions{})
	require.NoError(t, err)
	d.Status = appsv1.DaemonSetStatus{ObservedGeneration: d.Generation, DesiredNumberScheduled: 2, CurrentNumberScheduled: 2, UpdatedNumberScheduled: 2, NumberAvailable: 2, NumberReady: 2}
	_, err = l.client.AppsV1().DaemonSets("web").UpdateStatus(t.Context(), d, metav1.UpdateOptions{})
	require.NoError(t, err)
	l.there("the Deployment", false, func() error {
		_, err := deployments.Get(t.Context(), "public-causeway", metav1.GetOptions{})
		return err
	})
	require.NoError(t, daemonSet())
}

// What the cluster refuses stands in the Gateway's status in its words, stops nothing else, and holds when it is mended.
func TestManagedRefusals(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, class)
	kube.ApplyYAML(t, `{apiVersion: v1, kind: Service, metadata: {name: public-causeway, namespace: web}, spec: {ports: [{port: 80}]}}`)
	l := lead(t, kube)
	kube.ApplyYAML(t, public)
	kube.ApplyYAML(t, strings.Replace(public, "name: public", "name: other", 1))
	l.says("public", "False/NoResources: Service web/public-causeway is there already and is not this Gateway's: delete it")
	require.Empty(t, l.service("public-causeway").Labels)
	l.says("other", "True/Programmed")
	require.NoError(t, l.client.CoreV1().Services("web").Delete(t.Context(), "public-causeway", metav1.DeleteOptions{}))
	l.says("public", "True/Programmed")

	// Parameters that are gone leave all as it is.
	kube.ApplyYAML(t, strings.Replace(public, "infrastructure: {", "infrastructure: {parametersRef: {group: mesh.causeway.dev, kind: GatewayParameters, name: gone}, ", 1))
	g := l.says("public", "False/Invalid: there is no GatewayParameters web/gone: create it or correct the name")
	require.Equal(t, string(gatewayv1.GatewayReasonInvalidParameters), apimeta.FindStatusCondition(g.Status.Conditions, "Accepted").Reason)
	l.await("public-causeway", "the Deployment", func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 2 })
	kube.ApplyYAML(t, public)
	l.says("public", "True/Programmed")

	// What the API server does not take is told, and what stands is kept: here the name of an annotation.
	bad := strings.Replace(class, "type: ClusterIP", `type: ClusterIP, annotations: {"not a name": x}`, 1)
	kube.ApplyYAML(t, bad)
	l.says("public", "False/NoResources: apply Service web/public-causeway: ")
	l.await("public-causeway", "the Deployment", func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 2 })
	kube.ApplyYAML(t, class)
	l.says("public", "True/Programmed")

	// So is a right that it lacks.
	require.NoError(t, l.client.RbacV1().ClusterRoleBindings().Delete(t.Context(), "causeway-gateways", metav1.DeleteOptions{}))
	kube.ApplyYAML(t, strings.Replace(class, "managed: true", "managed: true, replicas: 3", 1))
	l.says("public", "False/NoResources: give the control plane this right")
}

// Addresses that a Gateway asks for become those of its Service, or it says why not (conformance:
// GatewayStaticAddresses, GatewayOptionalAddressValue).
func TestManagedAddresses(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, class)
	l := lead(t, kube)
	with := func(addresses string) string {
		return strings.Replace(public, "gatewayClassName: causeway", "gatewayClassName: causeway\n  addresses: "+addresses, 1)
	}
	// A free address of the range.
	kube.ApplyYAML(t, `{apiVersion: v1, kind: Service, metadata: {name: free, namespace: web}, spec: {ports: [{port: 80}]}}`)
	free := l.service("free").Spec.ClusterIP
	kube.ApplyYAML(t, with(fmt.Sprintf(`[{value: 0.0.0.0}, {value: %s}]`, free)))
	l.says("public", `False/AddressNotUsable: "0.0.0.0" is not an address`)
	_, err := l.client.CoreV1().Services("web").Get(t.Context(), "public-causeway", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	// Another Service has it: in the API server's words, until that one goes.
	kube.ApplyYAML(t, with(fmt.Sprintf(`[{value: %s}]`, free)))
	l.says("public", "False/AddressNotUsable: already allocated")
	require.NoError(t, l.client.CoreV1().Services("web").Delete(t.Context(), "free", metav1.DeleteOptions{}))
	g := l.says("public", "True/Programmed")
	require.Len(t, g.Status.Addresses, 1)
	require.Equal(t, free, g.Status.Addresses[0].Value)
	require.Equal(t, free, l.service("public-causeway").Spec.ClusterIP)
	// Kubernetes lets nobody change it.
	kube.ApplyYAML(t, with(`[{value: 10.0.0.253}]`))
	l.says("public", "False/AddressNotUsable: has another address already")
	kube.ApplyYAML(t, with(`[{type: IPAddress}]`))
	g = l.says("public", "True/Programmed")
	require.Equal(t, free, g.Status.Addresses[0].Value)

	// A load balancer's are there when it is.
	kube.ApplyYAML(t, strings.Replace(class, "service: {type: ClusterIP}", "replicas: 2", 1))
	l.says("public", "False/AddressNotAssigned: the load balancer of Service web/public-causeway does not have it yet")
	s := l.service("public-causeway")
	require.Equal(t, corev1.ServiceTypeLoadBalancer, s.Spec.Type)
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "edge.elb.example.com"}, {IP: "192.0.2.7", IPMode: new(corev1.LoadBalancerIPModeVIP)}}
	_, err = l.client.CoreV1().Services("web").UpdateStatus(t.Context(), s, metav1.UpdateOptions{})
	require.NoError(t, err)
	kube.ApplyYAML(t, public)
	g = l.says("public", "True/Programmed")
	values := make([]string, len(g.Status.Addresses))
	for i, a := range g.Status.Addresses {
		values[i] = string(*a.Type) + " " + a.Value
	}
	slices.Sort(values)
	require.Equal(t, []string{"Hostname edge.elb.example.com", "IPAddress 192.0.2.7"}, values)
	require.Equal(t, s.Spec.ClusterIP, l.service("public-causeway").Spec.ClusterIP)
}
