// Package edges makes the proxies of Gateways in a cluster, and what belongs to them. What
// there should be is told by [ObjectsOf], which is pure; [Run] makes the cluster so. Only the
// leader runs it.
package edges

import (
	"cmp"
	"maps"
	"net/netip"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Seen is what the cluster has already decided of an edge. It is all of the cluster on which
// the objects depend.
type Seen struct {
	// IPv4 and IPv6 are the families of the Service's cluster IPs. Neither is known before there is one.
	IPv4, IPv6 bool
	// Replicas is how many the Deployment has, nil without one.
	Replicas *int32
	// Scaled is true if somebody else, such as an autoscaler, has said how many.
	Scaled bool
}

// Objects are what there should be for an edge. One that is nil should not be there.
type Objects struct {
	ServiceAccount *corev1.ServiceAccount
	Service        *corev1.Service
	Deployment     *appsv1.Deployment
	DaemonSet      *appsv1.DaemonSet
	Budget         *policyv1.PodDisruptionBudget
	Autoscaler     *autoscalingv2.HorizontalPodAutoscaler
}

// Plane is the control plane that proxies are made for.
type Plane struct {
	// Namespace is where it runs, Audience for whom tokens are that it takes.
	Namespace, Audience string
}

// ObjectsOf returns what there should be for an edge.
func ObjectsOf(e *discovery.Edge, plane Plane, seen Seen) Objects {
	m := maker{edge: e, plane: plane, seen: seen}
	out := Objects{
		ServiceAccount: &corev1.ServiceAccount{
			TypeMeta: meta("v1", "ServiceAccount"), ObjectMeta: m.meta(nil), AutomountServiceAccountToken: new(false),
		},
		Service: m.service(),
	}
	if e.Parameters.Workload == v1alpha1.GatewayDaemonSet {
		out.DaemonSet = m.daemonSet()
		return out
	}
	out.Deployment, out.Budget = m.deployment(), m.budget()
	if e.Parameters.Autoscaling != nil {
		out.Autoscaler = m.autoscaler()
	}
	return out
}

type maker struct {
	edge  *discovery.Edge
	plane Plane
	seen  Seen
}

func meta(apiVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

// selector are the labels that tell an edge's pods from all others. A Deployment's can never be changed.
func (m *maker) selector() map[string]string {
	return map[string]string{
		gatewayv1.GatewayNameLabelKey: discovery.GatewayLabel(m.edge.Name), v1alpha1.ManagedByKey: v1alpha1.ManagedBy,
	}
}

// labels of all objects: what the Gateway says, but for what tells edges apart.
func (m *maker) labels() map[string]string {
	out := make(map[string]string)
	maps.Copy(out, m.edge.Labels)
	maps.Copy(out, m.selector())
	return out
}

// meta returns the metadata of an object, with more annotations than the Gateway's own, which come first.
//
// The owner does not wait for what it owns (blockOwnerDeletion): that would need a right over all Gateways.
func (m *maker) meta(more map[string]string) metav1.ObjectMeta {
	annotations := make(map[string]string)
	maps.Copy(annotations, more)
	maps.Copy(annotations, m.edge.Annotations)
	return metav1.ObjectMeta{
		Namespace: m.edge.Namespace, Name: m.edge.Object, Labels: m.labels(), Annotations: annotations,
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: gatewayv1.GroupVersion.String(), Kind: discovery.KindGateway, Name: m.edge.Name, UID: types.UID(m.edge.UID), Controller: new(true),
		}},
	}
}

func (m *maker) service() *corev1.Service {
	p := m.edge.Parameters.Service
	out := &corev1.Service{
		TypeMeta: meta("v1", discovery.KindService), ObjectMeta: m.meta(p.Annotations),
		Spec: corev1.ServiceSpec{
			Type: p.Type, Selector: m.selector(), IPFamilyPolicy: new(corev1.IPFamilyPolicyPreferDualStack),
			ExternalTrafficPolicy: p.ExternalTrafficPolicy,
		},
	}
	for _, port := range m.edge.Ports {
		number := int32(port.Number)
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{
			Name: port.AppProtocol + "-" + strconv.Itoa(int(number)), Port: number, TargetPort: intstr.FromInt32(number), Protocol: corev1.ProtocolTCP,
			AppProtocol: new(port.AppProtocol),
		})
	}
	switch {
	case p.Type == corev1.ServiceTypeLoadBalancer:
		out.Spec.LoadBalancerClass, out.Spec.LoadBalancerSourceRanges = p.LoadBalancerClass, p.SourceRanges
		if len(m.edge.Addresses) > 0 {
			out.Spec.LoadBalancerIP = m.edge.Addresses[0]
		}
	case len(m.edge.Addresses) > 0:
		out.Spec.ClusterIP, out.Spec.ClusterIPs = m.edge.Addresses[0], m.edge.Addresses
		for _, text := range m.edge.Addresses {
			family := corev1.IPv6Protocol
			if a, err := netip.ParseAddr(text); err == nil && a.Is4() {
				family = corev1.IPv4Protocol
			}
			out.Spec.IPFamilies = append(out.Spec.IPFamilies, family)
		}
	}
	return out
}

// template is what every pod is made from. Nothing in it depends on the Gateway's listeners: a change of these makes
// no new pods, and ends no connection.
func (m *maker) template() corev1.PodTemplateSpec {
	p := &m.edge.Parameters
	spec := inject.EdgePod(&inject.Edge{
		Gateway: m.edge.Name, ControlPlane: m.plane.Namespace, Audience: m.plane.Audience, Image: p.Image, PullPolicy: p.ImagePullPolicy,
		Resources: corev1.ResourceRequirements{Requests: p.Resources.Requests, Limits: p.Resources.Limits}, TLSSecret: p.TLSSecret,
		HealthWait: p.Drain.HealthWait.Duration, DrainTimeout: p.Drain.Timeout.Duration, IPv4: m.seen.IPv4, IPv6: m.seen.IPv6,
	})
	spec.ServiceAccountName = m.edge.Object
	for _, name := range p.ImagePullSecrets {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	s := p.Scheduling
	spec.NodeSelector, spec.Tolerations, spec.PriorityClassName = s.NodeSelector, s.Tolerations, s.PriorityClassName
	if p.Workload != v1alpha1.GatewayDaemonSet {
		for _, over := range []struct {
			key  string
			rule v1alpha1.GatewaySpread
		}{{corev1.LabelTopologyZone, s.Zones}, {corev1.LabelHostname, s.Nodes}} {
			spec.TopologySpreadConstraints = append(spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
				MaxSkew: 1, TopologyKey: over.key, WhenUnsatisfiable: corev1.UnsatisfiableConstraintAction(over.rule),
				LabelSelector: &metav1.LabelSelector{MatchLabels: m.selector()},
				// Else pods of the version before keep those of the next one from their places.
				MatchLabelKeys: []string{appsv1.DefaultDeploymentUniqueLabelKey},
			})
		}
	}
	labels := m.labels()
	labels[inject.Label] = "false" // it is a member already
	annotations := make(map[string]string)
	maps.Copy(annotations, m.edge.Annotations)
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations}, Spec: spec}
}

func (m *maker) deployment() *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta: meta("apps/v1", "Deployment"), ObjectMeta: m.meta(nil),
		Spec: appsv1.DeploymentSpec{
			Replicas: m.replicas(), Selector: &metav1.LabelSelector{MatchLabels: m.selector()}, Template: m.template(),
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromString("25%")),
			}},
		},
	}
}

// replicas is how many the Deployment should have, nil if an autoscaler has said so. A field that was applied and is
// left out goes back to its default, which is 1: so what is there is said again until somebody else has said it.
func (m *maker) replicas() *int32 {
	a := m.edge.Parameters.Autoscaling
	switch {
	case a == nil:
		return m.edge.Parameters.Replicas
	case m.seen.Replicas == nil:
		return &a.MinReplicas
	case m.seen.Scaled:
		return nil
	}
	return new(max(a.MinReplicas, min(a.MaxReplicas, *m.seen.Replicas)))
}

func (m *maker) daemonSet() *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		TypeMeta: meta("apps/v1", "DaemonSet"), ObjectMeta: m.meta(nil),
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: m.selector()}, Template: m.template(),
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{
				MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1)),
			}},
		},
	}
}

// budget lets one proxy be evicted after the other. One that does not serve keeps no node from being drained.
func (m *maker) budget() *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta: meta("policy/v1", "PodDisruptionBudget"), ObjectMeta: m.meta(nil),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: m.selector()},
			UnhealthyPodEvictionPolicy: new(policyv1.AlwaysAllow),
		},
	}
}

func (m *maker) autoscaler() *autoscalingv2.HorizontalPodAutoscaler {
	a := m.edge.Parameters.Autoscaling
	return &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta: meta("autoscaling/v2", "HorizontalPodAutoscaler"), ObjectMeta: m.meta(nil),
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: m.edge.Object},
			MinReplicas:    &a.MinReplicas, MaxReplicas: max(a.MinReplicas, a.MaxReplicas),
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{
					Type: autoscalingv2.UtilizationMetricType, AverageUtilization: cmp.Or(a.CPUUtilization, new(int32(70))),
				},
			}}},
		},
	}
}
