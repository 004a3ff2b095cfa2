package edges

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/causeway-mesh/causeway/discovery"
)

// fieldManager is whose fields those are that are applied here (server-side apply). Others may own others.
const fieldManager = "causeway-edges"

// kind is a kind of object that is made.
type kind struct{ name, path, resource string }

var (
	serviceAccounts = kind{"ServiceAccount", "/api/v1", "serviceaccounts"}
	services        = kind{"Service", "/api/v1", "services"}
	deployments     = kind{"Deployment", "/apis/apps/v1", "deployments"}
	daemonSets      = kind{"DaemonSet", "/apis/apps/v1", "daemonsets"}
	budgets         = kind{"PodDisruptionBudget", "/apis/policy/v1", "poddisruptionbudgets"}
	autoscalers     = kind{"HorizontalPodAutoscaler", "/apis/autoscaling/v2", "horizontalpodautoscalers"}
)

// objects reads and writes the objects of one edge.
type objects struct {
	api  rest.Interface
	edge *discovery.Edge
	// written remembers what was applied, and what the API server made of it, by kind.
	written map[string]writing
}

// writing are digests of an object as it was applied, and as it was then.
type writing struct{ applied, is uint64 }

// refusal is what the API server, or the cluster, says against an object.
type refusal struct {
	text string
	// address is true if it refuses the address that the Gateway asks for, passing if the
	// same may be taken a moment later: the API server is busy, or away.
	address, passing bool
}

func (r *refusal) Error() string { return r.text }

// do returns an answer's text. An error has the API server's own words, which are in the text then: the client
// reads them only for the kinds that it knows.
func do(ctx context.Context, r *rest.Request) ([]byte, error) {
	text, err := r.Do(ctx).Raw()
	if err == nil {
		return text, nil
	}
	var status metav1.Status
	if json.Unmarshal(text, &status) == nil && status.Status == metav1.StatusFailure {
		return nil, &apierrors.StatusError{ErrStatus: status}
	}
	return nil, err //nolint:wrapcheck // refused does
}

func (o *objects) request(r *rest.Request, k kind) *rest.Request {
	return r.AbsPath(k.path, "namespaces", o.edge.Namespace, k.resource, o.edge.Object).SetHeader("Accept", "application/json")
}

// get reads an object into a value. It returns its text, nil if there is none.
func (o *objects) get(ctx context.Context, k kind, into metav1.Object) ([]byte, error) {
	text, err := do(ctx, o.request(o.api.Get(), k))
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, o.refused(k, "read", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return nil, fmt.Errorf("decode %s %s/%s: %w", k.name, o.edge.Namespace, o.edge.Object, err)
	}
	return text, o.own(k, into)
}

// own returns why an object that is there is not the edge's to change, nil if it is.
func (o *objects) own(k kind, there metav1.Object) error {
	owner := metav1.GetControllerOfNoCopy(there)
	what := fmt.Sprintf("%s %s/%s", k.name, o.edge.Namespace, o.edge.Object)
	switch {
	case owner == nil:
		return &refusal{text: what + " is there already and is not this Gateway's: delete it, or name the Gateway otherwise"}
	case owner.Kind == discovery.KindGateway && owner.Name == o.edge.Name && string(owner.UID) != o.edge.UID:
		return &refusal{text: what + " is that of an earlier Gateway of the same name, and is being deleted"}
	case string(owner.UID) != o.edge.UID:
		return &refusal{text: fmt.Sprintf("%s is there already and is that of %s %s: delete it, or name the Gateway otherwise", what, owner.Kind, owner.Name)}
	}
	return nil
}

// apply makes an object what it should be, unless it is that already. there is the object's text as it was read, nil
// if there is none. It returns the text of the object as it is then, nil if nothing was written.
func (o *objects) apply(ctx context.Context, k kind, want any, there []byte) ([]byte, error) {
	body, err := applied(want)
	if err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", k.name, o.edge.Namespace, o.edge.Object, err)
	}
	if there != nil && o.written[k.name] == (writing{digest(body), content(there)}) {
		return nil, nil
	}
	text, err := do(ctx, o.request(o.api.Patch(types.ApplyPatchType), k).Param("fieldManager", fieldManager).Param("force", "true").Body(body))
	if err != nil {
		delete(o.written, k.name)
		return nil, o.refused(k, "apply", err)
	}
	o.written[k.name] = writing{digest(body), content(text)}
	return text, nil
}

// remove deletes the object that was read, and nothing that came in its place since.
func (o *objects) remove(ctx context.Context, k kind, there metav1.Object) error {
	body, err := json.Marshal(&metav1.DeleteOptions{
		TypeMeta:          meta("v1", "DeleteOptions"),
		PropagationPolicy: new(metav1.DeletePropagationBackground), Preconditions: &metav1.Preconditions{UID: new(there.GetUID())},
	})
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", k.name, o.edge.Namespace, o.edge.Object, err)
	}
	_, err = do(ctx, o.request(o.api.Delete(), k).SetHeader("Content-Type", "application/json").Body(body))
	delete(o.written, k.name)
	if err != nil && !apierrors.IsNotFound(err) {
		return o.refused(k, "delete", err)
	}
	return nil
}

// refused returns an error of the API server in its words, with what to do where that is known.
func (o *objects) refused(k kind, verb string, err error) error {
	out := &refusal{text: fmt.Sprintf("%s %s %s/%s: %s", verb, k.name, o.edge.Namespace, o.edge.Object, err), passing: true}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return out
	}
	s := status.Status()
	out.passing = s.Code >= http.StatusInternalServerError || apierrors.IsTooManyRequests(err) || apierrors.IsConflict(err) || apierrors.IsTimeout(err)
	out.text = fmt.Sprintf("%s %s %s/%s: %s", verb, k.name, o.edge.Namespace, o.edge.Object, s.Message)
	if apierrors.IsForbidden(err) && strings.Contains(s.Message, " cannot "+verbOf(verb)) { // and not a quota, or PodSecurity
		out.text += ": give the control plane this right (gateways.managed of the chart, or the component manifests/gateways)"
	}
	if k == services && apierrors.IsInvalid(err) && s.Details != nil {
		for _, c := range s.Details.Causes {
			out.address = out.address || len(o.edge.Addresses) > 0 && strings.HasPrefix(c.Field, "spec.clusterIP")
		}
	}
	return out
}

// verbOf returns a verb as the API server's authorizer calls it.
func verbOf(verb string) string {
	return map[string]string{"read": "get", "apply": "patch", "delete": "delete"}[verb]
}

// applied returns an object as it is applied: what it does not say stays out, so that it does not become ours.
func applied(o any) ([]byte, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	delete(fields, "status")
	return json.Marshal(withoutNothing(fields))
}

// withoutNothing leaves out null, and what is empty where that means the same as nothing.
func withoutNothing(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			value = withoutNothing(value)
			m, isMap := value.(map[string]any)
			if value == nil || isMap && len(m) == 0 && name != "emptyDir" {
				delete(v, name)
				continue
			}
			v[name] = value
		}
	case []any:
		for i := range v {
			v[i] = withoutNothing(v[i])
		}
	}
	return v
}

func digest(text []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(text)
	return h.Sum64()
}

// content returns a digest of what an object says, without its status and the API server's own notes.
func content(text []byte) uint64 {
	var fields map[string]any
	if json.Unmarshal(text, &fields) != nil {
		return digest(text)
	}
	delete(fields, "status")
	if m, ok := fields["metadata"].(map[string]any); ok {
		for _, name := range []string{"managedFields", "resourceVersion", "generation"} {
			delete(m, name)
		}
	}
	out, _ := json.Marshal(fields) // it was JSON
	return digest(out)
}

// scaled reports whether somebody else has said how many replicas a Deployment has: then they are not ours.
func scaled(d *appsv1.Deployment) bool {
	for i := range d.ManagedFields {
		f := &d.ManagedFields[i]
		if f.Manager != fieldManager || f.Operation != metav1.ManagedFieldsOperationApply || f.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec map[string]any `json:"f:spec"`
		}
		if json.Unmarshal(f.FieldsV1.GetRawBytes(), &fields) == nil && fields.Spec["f:replicas"] != nil {
			return false
		}
	}
	return true
}

// rolledOut reports whether all of a Deployment's pods are of its present form and serve.
func rolledOut(d *appsv1.Deployment) bool {
	s, want := &d.Status, int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	return d.UID != "" && s.ObservedGeneration >= d.Generation && s.UpdatedReplicas >= want && s.AvailableReplicas >= want
}

// runsEverywhere reports the same of a DaemonSet.
func runsEverywhere(d *appsv1.DaemonSet) bool {
	s := &d.Status
	return d.UID != "" && s.ObservedGeneration >= d.Generation && s.DesiredNumberScheduled > 0 &&
		s.UpdatedNumberScheduled >= s.DesiredNumberScheduled && s.NumberAvailable >= s.DesiredNumberScheduled
}

// families returns the families of a Service's cluster IPs.
func families(s *corev1.Service) (v4, v6 bool) {
	for _, f := range s.Spec.IPFamilies {
		v4, v6 = v4 || f == corev1.IPv4Protocol, v6 || f == corev1.IPv6Protocol
	}
	return v4, v6
}
