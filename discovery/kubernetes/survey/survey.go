// Package survey reads what an installation in a cluster consists of, with the rights of who asks, for
// policy/installation to judge. What may not be read is said, and stops nothing else.
package survey

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	clientkubernetes "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/identity"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/lead"
	"github.com/causeway-mesh/causeway/policy/installation"
)

// survey is one reading of a cluster.
type survey struct {
	core    clientkubernetes.Interface
	objects dynamic.Interface
	meta    metadata.Interface
	own     string // the control plane's namespace

	mu    sync.Mutex
	facts *installation.Facts
}

func newSurvey(config *rest.Config, namespace string) (*survey, error) {
	c := rest.CopyConfig(config)
	c.UserAgent, c.QPS = "causeway", -1 // at most eight at a time
	s := &survey{own: namespace, facts: &installation.Facts{Namespace: namespace, Unknown: make(map[installation.Part]string)}}
	var err error
	if s.core, err = clientkubernetes.NewForConfig(c); err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	if s.objects, err = dynamic.NewForConfig(c); err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	if s.meta, err = metadata.NewForConfig(c); err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	return s, nil
}

// Read reads all but what the replicas say of themselves. Its error is that the cluster does not answer.
func Read(ctx context.Context, config *rest.Config, namespace string) (*installation.Facts, error) {
	s, err := newSurvey(config, namespace)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	info, err := s.core.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("the cluster's API server: %w", err)
	}
	s.facts.Kubernetes = info.GitVersion
	var g errgroup.Group
	for _, part := range []struct {
		name installation.Part
		read func(context.Context) error
	}{
		{installation.CRDs, s.crds},
		{installation.Gateway, s.gateway},
		{installation.Rights, s.rights},
		{installation.Replicas, s.deployment},
		{installation.Leader, s.leader},
		{installation.XDSService, s.service},
		{installation.Injection, s.webhook},
		{installation.Members, s.members},
	} {
		g.Go(func() error { s.note(part.name, part.read(ctx)); return nil })
	}
	return s.facts, g.Wait() //nolint:wrapcheck // none fails
}

// Members reads of the facts those about members alone: the pods that should be ones and are not, those that are injected and
// ready, and what of namespaces does nothing.
func Members(ctx context.Context, config *rest.Config, namespace string) (*installation.Facts, error) {
	s, err := newSurvey(config, namespace)
	if err != nil {
		return nil, err
	}
	if err := s.members(ctx); err != nil {
		return nil, err
	}
	return s.facts, nil
}

// note keeps why a part could not be read.
func (s *survey) note(part installation.Part, err error) {
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.facts.Unknown[part] = err.Error()
	}
}

// deployment also reads the certificate, whose Secret the Deployment names.
func (s *survey) deployment(ctx context.Context) error {
	secret := "causeway-xds-tls"
	d, err := s.core.AppsV1().Deployments(s.own).Get(ctx, "causeway", metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		s.note(installation.Replicas, fmt.Errorf("deployment %s/causeway: %w", s.own, err))
	default:
		wanted := 1
		if d.Spec.Replicas != nil {
			wanted = int(*d.Spec.Replicas)
		}
		s.facts.Deployment = installation.Deployment{Found: true, Wanted: wanted, Ready: int(d.Status.ReadyReplicas), Updated: int(d.Status.UpdatedReplicas)}
		for _, v := range d.Spec.Template.Spec.Volumes {
			if v.Name == "tls" && v.Secret != nil {
				secret = v.Secret.SecretName
			}
		}
	}
	c, err := s.certificate(ctx, secret)
	if c.Missing {
		// Without one of the operator's the control plane makes its own.
		if made, err := s.certificate(ctx, identity.SecretName); err == nil && !made.Missing {
			c, c.Made = made, true
		}
	}
	s.facts.XDS = c
	s.note(installation.TLS, err)
	return nil
}

func (s *survey) leader(ctx context.Context) error {
	l, err := s.core.CoordinationV1().Leases(s.own).Get(ctx, lead.LeaderLease, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lease %s/%s: %w", s.own, lead.LeaderLease, err)
	}
	f := &s.facts.Lease
	if l.Spec.HolderIdentity != nil {
		f.Holder = *l.Spec.HolderIdentity
	}
	if l.Spec.RenewTime != nil {
		f.Renewed = l.Spec.RenewTime.Time
	}
	if l.Spec.LeaseDurationSeconds != nil {
		f.Seconds = int(*l.Spec.LeaseDurationSeconds)
	}
	return nil
}

func (s *survey) service(ctx context.Context) error {
	var err error
	s.facts.Service, err = s.reaches(ctx, "causeway")
	return err
}

// reaches counts the ready endpoints of a Service of the control plane.
func (s *survey) reaches(ctx context.Context, name string) (installation.Service, error) {
	out := installation.Service{}
	if _, err := s.core.CoreV1().Services(s.own).Get(ctx, name, metav1.GetOptions{}); err != nil {
		if apierrors.IsNotFound(err) {
			return out, nil
		}
		return out, fmt.Errorf("service %s/%s: %w", s.own, name, err)
	}
	out.Found = true
	slices, err := s.core.DiscoveryV1().EndpointSlices(s.own).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + name})
	if err != nil {
		return out, fmt.Errorf("endpointslices in %s: %w", s.own, err)
	}
	pods := make(map[string]bool) // one that has two addresses is in two slices
	for i := range slices.Items {
		for _, e := range slices.Items[i].Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
				continue
			}
			of := e.Addresses[0]
			if e.TargetRef != nil {
				of = e.TargetRef.Name
			}
			pods[of] = true
		}
	}
	out.Ready = len(pods)
	return out, nil
}

// eachPod calls f with the pods of a namespace, or of all for "", a page at a time.
func (s *survey) eachPod(ctx context.Context, namespace, selector string, f func(*corev1.Pod)) error {
	o := metav1.ListOptions{LabelSelector: selector, Limit: 500}
	for {
		list, err := s.core.CoreV1().Pods(namespace).List(ctx, o)
		if err != nil {
			return fmt.Errorf("pods: %w", err)
		}
		for i := range list.Items {
			f(&list.Items[i])
		}
		if o.Continue = list.Continue; o.Continue == "" {
			return nil
		}
	}
}

func add(list *[]string, text string) {
	if text != "" && !slices.Contains(*list, text) {
		*list = append(*list, text)
	}
}
