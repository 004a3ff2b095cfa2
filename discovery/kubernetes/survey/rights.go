package survey

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
	"github.com/causeway-mesh/causeway/manifests"
	"github.com/causeway-mesh/causeway/policy/installation"
)

// atOnce is how many questions about rights are asked at a time.
const atOnce = 8

// rights asks the API server what the control plane may do, of what its roles are to allow, and what the user may.
func (s *survey) rights(ctx context.Context) error {
	needed, err := s.needed(ctx)
	if err != nil {
		return err
	}
	user := "system:serviceaccount:" + s.own + ":causeway"
	groups := []string{"system:serviceaccounts", "system:serviceaccounts:" + s.own, "system:authenticated"}
	rights := make([]installation.Right, len(needed))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, n := range needed {
		g.Go(func() error {
			a := n.attributes
			resource := a.Resource
			if a.Subresource != "" {
				resource += "/" + a.Subresource
			}
			if a.Group != "" {
				resource += "." + a.Group
			}
			r := installation.Right{Who: n.who, Verb: a.Verb, Resource: resource, Namespace: a.Namespace, Optional: n.optional}
			var err error
			if n.who == installation.You {
				var review *authorizationv1.SelfSubjectAccessReview
				if review, err = s.core.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
					Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &a},
				}, metav1.CreateOptions{}); err == nil {
					r.Allowed = review.Status.Allowed
				}
			} else {
				var review *authorizationv1.SubjectAccessReview
				if review, err = s.core.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
					Spec: authorizationv1.SubjectAccessReviewSpec{User: user, Groups: groups, ResourceAttributes: &a},
				}, metav1.CreateOptions{}); err == nil {
					r.Allowed = review.Status.Allowed
				}
			}
			rights[i] = r
			return err //nolint:wrapcheck // it names the resource and the right
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("what the control plane may do: %w", err)
	}
	s.facts.Rights = rights
	return nil
}

type need struct {
	who        string
	attributes authorizationv1.ResourceAttributes
	optional   bool
}

// needed lists the rights of the roles that are installed, and those that this command takes.
func (s *survey) needed(ctx context.Context) ([]need, error) {
	files := []string{"install/rbac.yaml"}
	if _, err := s.core.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, inject.ObjectName, metav1.GetOptions{}); err == nil {
		files = append(files, "inject/rbac.yaml")
	}
	everywhere := []string{""}
	made := s.gatewayNamespaces(ctx)
	if made != nil {
		files = append(files, gatewayRoles)
	}
	var out []need
	for _, file := range files {
		text, err := manifests.Roles.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			var role rbacv1.Role // a ClusterRole has the same fields
			if err := yaml.Unmarshal([]byte(document), &role); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			namespaces := everywhere
			switch {
			case role.Kind == "Role":
				namespaces = []string{s.own}
			case file == gatewayRoles:
				namespaces = made
			}
			for _, namespace := range namespaces {
				for _, rule := range role.Rules {
					out = append(out, of(rule, namespace)...)
				}
			}
		}
	}
	for _, r := range []authorizationv1.ResourceAttributes{
		{Verb: "list", Resource: "namespaces"},
		{Verb: "get", Resource: "configmaps"},
		{Verb: "list", Resource: "pods"},
		{Verb: "list", Resource: "pods", Namespace: s.own},
		{Verb: "create", Resource: "pods", Subresource: "portforward", Namespace: s.own},
		{Verb: "get", Resource: "secrets", Namespace: s.own},
		{Verb: "get", Resource: "deployments", Group: "apps", Namespace: s.own},
		{Verb: "get", Resource: "leases", Group: "coordination.k8s.io", Namespace: s.own},
		{Verb: "list", Resource: "endpointslices", Group: "discovery.k8s.io", Namespace: s.own},
		{Verb: "get", Resource: "customresourcedefinitions", Group: "apiextensions.k8s.io"},
		{Verb: "get", Resource: "mutatingwebhookconfigurations", Group: "admissionregistration.k8s.io"},
	} {
		out = append(out, need{installation.You, r, true})
	}
	return out, nil
}

// What lets the control plane make the proxies of Gateways: the manifest, and the name of its role and of what binds it.
const (
	gatewayRoles = "gateways/rbac.yaml"
	gatewayRole  = "causeway-gateways"
)

// gatewayNamespaces returns the namespaces in which the control plane may make the proxies of Gateways as it is installed, "" for
// all: those where its role is bound. It returns nil where the role is not installed, or cannot be seen.
func (s *survey) gatewayNamespaces(ctx context.Context) []string {
	if _, err := s.core.RbacV1().ClusterRoles().Get(ctx, gatewayRole, metav1.GetOptions{}); err != nil {
		return nil
	}
	bound, err := s.core.RbacV1().RoleBindings(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + gatewayRole})
	if err != nil || len(bound.Items) == 0 {
		return []string{""}
	}
	var out []string
	for i := range bound.Items {
		out = append(out, bound.Items[i].Namespace)
	}
	return out
}

// of returns a rule's rights one by one.
func of(rule rbacv1.PolicyRule, namespace string) []need {
	var out []need
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				for _, name := range names {
					resource, subresource, _ := strings.Cut(resource, "/")
					out = append(out, need{
						installation.ControlPlane,
						authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Group: group, Resource: resource, Subresource: subresource, Name: name},
						// An installation may narrow which ConfigMaps are read.
						resource == "configmaps" && namespace == "" && name == "" && verb != "create",
					})
				}
			}
		}
	}
	return out
}
