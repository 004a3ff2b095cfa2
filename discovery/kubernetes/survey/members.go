package survey

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
	"github.com/causeway-mesh/causeway/policy/installation"
)

// webhook reads the webhook of injection, and whether its certificate is one that API servers trust.
func (s *survey) webhook(ctx context.Context) error {
	c, err := s.core.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, inject.ObjectName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("MutatingWebhookConfiguration %s: %w", inject.ObjectName, err)
	}
	w := &installation.Webhook{}
	if w.Service, err = s.reaches(ctx, inject.ObjectName); err != nil {
		return err
	}
	if w.Certificate, err = s.certificate(ctx, inject.SecretName); err != nil {
		return err
	}
	w.Trusted = len(c.Webhooks) > 0
	for i := range c.Webhooks {
		hook := &c.Webhooks[i]
		if hook.FailurePolicy != nil {
			add(&w.FailurePolicies, string(*hook.FailurePolicy))
		}
		w.Trusted = w.Trusted && s.trusts(ctx, hook.ClientConfig.CABundle)
	}
	s.facts.Webhook = w
	return nil
}

// trusts reports whether a bundle of CAs vouches for the webhook's certificate, now or at another time: its end is judged apart.
func (s *survey) trusts(ctx context.Context, bundle []byte) bool {
	leaf, _, err := s.leaf(ctx, inject.SecretName)
	roots := x509.NewCertPool()
	if err != nil || leaf == nil || !roots.AppendCertsFromPEM(bundle) {
		return false
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: inject.ObjectName + "." + s.own + ".svc", CurrentTime: leaf.NotAfter})
	return err == nil
}

// leaf reads the certificate in a Secret, nil with the reason where there is none. The key is not looked at.
func (s *survey) leaf(ctx context.Context, name string) (leaf *x509.Certificate, secret *corev1.Secret, err error) {
	secret, err = s.core.CoreV1().Secrets(s.own).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // certificate names the Secret
	}
	block, _ := pem.Decode(secret.Data[corev1.TLSCertKey])
	if block == nil {
		return nil, secret, nil
	}
	leaf, err = x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, secret, nil //nolint:nilerr // there is none then
	}
	return leaf, secret, nil
}

func (s *survey) certificate(ctx context.Context, name string) (installation.Certificate, error) {
	c := installation.Certificate{Secret: name}
	leaf, secret, err := s.leaf(ctx, name)
	switch {
	case apierrors.IsNotFound(err):
		c.Missing, c.Problem = true, "there is no Secret "+s.own+"/"+name
	case err != nil:
		return c, fmt.Errorf("secret %s/%s: %w", s.own, name, err)
	case leaf == nil:
		c.Problem = "Secret " + s.own + "/" + name + " has no certificate in " + corev1.TLSCertKey
	default:
		c.Names, c.NotAfter, c.CA = leaf.DNSNames, leaf.NotAfter, len(secret.Data["ca.crt"]) > 0
	}
	return c, nil
}

// config is the configuration of injection; the defaults where there is none or it cannot be read.
func (s *survey) config(ctx context.Context) *inject.Config {
	if m, err := s.core.CoreV1().ConfigMaps(s.own).Get(ctx, inject.ObjectName, metav1.GetOptions{}); err == nil {
		if c, err := inject.ParseConfig([]byte(m.Data["inject.yaml"]), s.own, ""); err == nil {
			return c
		}
	}
	return &inject.Config{Namespace: s.own, Capture: inject.CapturePod}
}

// proof reads whether what the injected pods of a namespace prove themselves by is there.
func (s *survey) proof(ctx context.Context, n *installation.Namespace) error {
	if n.Secret == "" {
		m, err := s.core.CoreV1().ConfigMaps(n.Name).Get(ctx, inject.CAName, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			n.CAFound = true // nothing is said against it
			return fmt.Errorf("ConfigMap %s/%s: %w", n.Name, inject.CAName, err)
		}
		n.CAFound = err == nil && m.Data[inject.CAKey] != ""
		return nil
	}
	_, err := s.meta.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(n.Name).Get(ctx, n.Secret, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("secret %s/%s: %w", n.Name, n.Secret, err)
	}
	n.SecretFound = err == nil
	return nil
}

// ready reports whether a pod serves. One that starts or ends has a state of its own, which kubectl shows.
func ready(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// members reads the namespaces that have opted in, and of all pods that should be members those that are not.
func (s *survey) members(ctx context.Context) error {
	config := s.config(ctx)
	config.Kubernetes = s.facts.Kubernetes
	list, err := s.core.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("namespaces: %w", err)
	}
	known := make(map[string]inject.Namespace)
	look := func(into *installation.Namespace) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			member, why := inject.Standing(pod, known[pod.Namespace], config)
			fact := installation.Pod{ID: string(pod.UID), Namespace: pod.Namespace, Name: pod.Name, Workload: inject.Workload(pod)}
			if member && into != nil {
				into.Members++
			}
			if member && ready(pod) {
				s.facts.Injected = append(s.facts.Injected, fact)
			}
			if why != nil {
				fact.Reason, fact.Remedy = why.Reason, why.Remedy
				s.facts.Absent = append(s.facts.Absent, fact)
			}
		}
	}
	var failed error
	for i := range list.Items {
		o := &list.Items[i]
		ns := inject.Namespace{Name: o.Name, Labels: o.Labels, Annotations: o.Annotations}
		known[o.Name] = ns
		for _, hint := range ns.Hints() {
			s.facts.Misspelled = append(s.facts.Misspelled, installation.Misspelled{
				Object: "Namespace " + o.Name, Reason: hint.Reason, Remedy: cmp.Or(hint.Remedy, "docs/members.md has the words"),
			})
		}
		if o.Labels[inject.Label] != inject.Enabled || o.Name == s.own {
			continue
		}
		n := installation.Namespace{Name: o.Name, Secret: cmp.Or(o.Annotations[inject.AnnotationTLSSecret], config.TLSSecret), SecretFound: true}
		if err := s.eachPod(ctx, o.Name, "", look(&n)); err != nil {
			return err
		}
		if err := s.proof(ctx, &n); err != nil {
			failed = err
		}
		s.facts.Namespaces = append(s.facts.Namespaces, n)
	}
	byThemselves := inject.Label + "=true"
	all := look(nil)
	if err := s.eachPod(ctx, "", byThemselves, func(pod *corev1.Pod) {
		if known[pod.Namespace].Labels[inject.Label] != inject.Enabled {
			all(pod)
		}
	}); err != nil {
		return err
	}
	slices.SortFunc(s.facts.Absent, func(a, b installation.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return failed
}
