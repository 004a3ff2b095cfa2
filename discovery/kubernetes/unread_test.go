package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/test/harness"
)

// A group that cannot be read is not one that is gone: what was published of it
// stays, and no home is recorded by it, until it is deleted.
func TestUnreadableGroup(t *testing.T) {
	t.Parallel()
	kube := startKube(t)
	kube.ApplyYAML(t, service+"---"+group)
	key := discovery.Key{Namespace: "web", Name: "php-web-ec2"}
	first := newReplica(t, kube, nil)
	stop := run(t, func(ctx context.Context) error { return first.Publish(ctx, first.catalog) })
	instances(t, first.catalog, 3, nil)
	first.waitAddresses(t, "web/php-web", "10.1.0.1", "10.1.0.2", "10.1.0.3")
	stop()
	stays := func(r *replica) {
		t.Helper()
		p := &publisher{client: r.Client, cat: r.catalog}
		require.NoError(t, p.publish(t.Context(), key))
		list, err := kube.Client(t).DiscoveryV1().EndpointSlices("web").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		require.NotEmpty(t, list.Items, "the slices of a group that is there are deleted")
		for _, h := range upstream.UnrecordedHomes(r.catalog.Read()) {
			require.NotEqual(t, "web", h.Namespace, "a home is recorded by a guess")
		}
	}
	crd := func(patch string) {
		t.Helper()
		const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/instancegroups.mesh.causeway.dev"
		require.NoError(t, api(t, kube).Patch(types.JSONPatchType).AbsPath(path).Body([]byte(patch)).Do(t.Context()).Error())
	}

	// A CRD of another version lets it say what this release does not understand.
	crd(`[{"op":"replace","path":"/spec/versions/0/schema/openAPIV3Schema","value":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}]`)
	path := pathIn(discovery.KindInstanceGroup, "web", "php-web-ec2")
	harness.Eventually(t, 20*time.Second, "the new schema holds", func() error {
		return api(t, kube).Patch(types.MergePatchType).AbsPath(path).Body([]byte(`{"spec":{"ports":"odd"}}`)).Do(t.Context()).Error()
	})
	next := newReplica(t, kube, nil)
	st, _ := catalog.Sources.Get(next.catalog.Read(), ScopeInstanceGroups)
	require.Len(t, st.Unread, 1)
	require.Equal(t, key, st.Unread[0].Key)
	require.Equal(t, []discovery.ObjectName{{Kind: discovery.KindService, Key: discovery.Key{Namespace: "web", Name: "php-web"}}}, st.Unread[0].Targets)
	stays(next)

	// Nor is one gone whose kind is not served in a version that is read.
	crd(`[{"op":"replace","path":"/spec/versions/0/served","value":false}]`)
	harness.Eventually(t, 20*time.Second, "the version is not served", func() error {
		if api(t, kube).Get().AbsPath(path).Do(t.Context()).Error() == nil {
			return fmt.Errorf("it is")
		}
		return nil
	})
	blind := newReplica(t, kube, nil)
	blind.waitNote(t, ScopeInstanceGroups, "does not serve")
	stays(blind)
	crd(`[{"op":"replace","path":"/spec/versions/0/served","value":true}]`)
	harness.Eventually(t, 50*time.Second, "the group is listed", func() error {
		if st, _ := catalog.Sources.Get(blind.catalog.Read(), ScopeInstanceGroups); st.UnreadAll != "" || len(st.Unread) != 1 {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	stays(blind)

	run(t, func(ctx context.Context) error { return blind.Publish(ctx, blind.catalog) })
	instances(t, blind.catalog, 3, nil) // wakes the publisher
	require.NoError(t, api(t, kube).Delete().AbsPath(path).Do(t.Context()).Error())
	blind.waitAddresses(t, "web/php-web")
}

// What is there and has no row is told in the transaction that could take it for
// gone, with the Service that it is about where that much can be read.
func TestUnreadRows(t *testing.T) {
	t.Parallel()
	cat := catalog.New()
	kind, _ := objects.Named(discovery.KindInstanceGroup)
	rows := &objectRows{
		cat: cat, kind: kind, unreadable: make(map[discovery.Key]discovery.Unread), noted: func() {},
		status: &status{cat: cat, name: ScopeInstanceGroups}, log: slog.New(slog.DiscardHandler),
	}
	raw := func(name, spec string) *rawObject {
		return &rawObject{
			ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name},
			text:       fmt.Appendf(nil, `{"metadata":{"namespace":"web","name":%q},"spec":%s}`, name, spec),
		}
	}
	const good, odd = `{"serviceRef":{"name":"a"}}`, `{"serviceRef":{"name":"a"},"ports":"odd"}`
	unread := func() map[string]string {
		out := make(map[string]string)
		st, _ := catalog.Sources.Get(cat.Read(), ScopeInstanceGroups)
		require.Empty(t, st.UnreadAll)
		for _, u := range st.Unread {
			require.NotEmpty(t, u.Why)
			out[u.Name] = ""
			if u.Targets != nil {
				require.Len(t, u.Targets, 1)
				out[u.Name] = u.Targets[0].Name
			}
		}
		return out
	}
	require.NoError(t, rows.Replace([]any{raw("odd", odd), raw("good", good), raw("none", `"odd"`)}, ""))
	require.Equal(t, map[string]string{"odd": "a", "none": ""}, unread())
	require.NoError(t, rows.Update(raw("good", odd)))
	require.Equal(t, map[string]string{"odd": "a", "none": ""}, unread(), "what was read of it before holds")
	require.NoError(t, rows.Update(raw("odd", good)))
	require.Equal(t, map[string]string{"none": ""}, unread())
	require.NoError(t, rows.Update(raw("new", odd)))
	require.Equal(t, map[string]string{"none": "", "new": "a"}, unread())
	require.NoError(t, rows.Delete(raw("new", odd)))
	require.NoError(t, rows.Replace([]any{raw("good", odd), raw("odd", good)}, ""))
	require.Empty(t, unread())
	var many []any
	for i := range discovery.MaxUnread + 1 {
		many = append(many, raw(fmt.Sprint(i), odd))
	}
	require.NoError(t, rows.Replace(many, ""))
	st, _ := catalog.Sources.Get(cat.Read(), ScopeInstanceGroups)
	require.Len(t, st.Unread, discovery.MaxUnread)
	require.Equal(t, "1 more objects of kind InstanceGroup cannot be read", st.UnreadAll)
	require.NotEmpty(t, st.UnreadObject(discovery.Key{Namespace: "web", Name: "any"}), "which ones is not known")
	require.NoError(t, rows.clear())
	require.Empty(t, unread(), "a kind that is not installed has no objects")
}

// The name of each source, by which policy asks what it could not read, is the one that it has.
func TestNamesOfSources(t *testing.T) {
	for _, k := range policyKinds() {
		if name := discovery.KubernetesSource(k.Name); name != "" {
			require.Equal(t, scopeOf(k), name)
		}
	}
}

// What can be read of an object is read, whatever else does not fit.
func TestUnreadObject(t *testing.T) {
	t.Parallel()
	name := func(kind, namespace, name string) discovery.ObjectName {
		return discovery.ObjectName{Kind: kind, Key: discovery.Key{Namespace: namespace, Name: name}}
	}
	for text, want := range map[string]discovery.Unread{
		`"odd"`:                                 {},
		`{}`:                                    {NoTLS: true},
		`{"serviceRef":{"name":"a"},"ports":1}`: {NoTLS: true, Targets: []discovery.ObjectName{name("Service", "web", "a")}},
		`{"serviceRef":1}`:                      {NoTLS: true},
		`{"targetRefs":[{"kind":"Service","name":"a"},{"kind":"Gateway","name":"b"}],"tls":1}`: {Targets: []discovery.ObjectName{name("Service", "web", "a"), name("Gateway", "web", "b")}},
		`{"targetRefs":[{"kind":"Service","name":"a"},{"kind":1}]}`:                            {NoTLS: true},
		`{"targetRef":{"kind":"Service","name":"a","namespace":"web"}}`:                        {NoTLS: true, Targets: []discovery.ObjectName{name("Service", "web", "a")}},
		`{"parentRefs":[{"name":"a"},{"kind":"Service","name":"b","namespace":"shop"}],"hostnames":["c"],"rules":1}`: {
			NoTLS: true, Targets: []discovery.ObjectName{name("Gateway", "web", "a"), name("Service", "shop", "b")}, Hosts: []string{"c"},
		},
	} {
		raw := &rawObject{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "odd"}, text: fmt.Appendf(nil, `{"spec":%s}`, text)}
		want.Key, want.Why = discovery.Key{Namespace: "web", Name: "odd"}, "why"
		require.Equal(t, want, raw.unread("why"), text)
	}
}

// Of a kind that is served in another version alone, the objects that are there count as unread, and no others do.
func TestUnreadInAnotherVersion(t *testing.T) {
	t.Parallel()
	kube := startKubeWithRoutes(t)
	kube.ApplyYAML(t, service+`---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: strict, namespace: web}
spec:
  targetRefs: [{group: "", kind: Service, name: php-web}]
  validation: {hostname: a.example, wellKnownCACertificates: System}
`)
	const crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/backendtlspolicies.gateway.networking.k8s.io"
	require.NoError(t, api(t, kube).Patch(types.JSONPatchType).AbsPath(crd).Body([]byte(`[{"op":"replace","path":"/spec/versions/0/served","value":false}]`)).Do(t.Context()).Error())
	harness.Eventually(t, 20*time.Second, "the version is not served", func() error {
		if api(t, kube).Get().AbsPath("/apis/gateway.networking.k8s.io/v1/namespaces/web/backendtlspolicies/strict").Do(t.Context()).Error() == nil {
			return fmt.Errorf("it is")
		}
		return nil
	})
	r := newReplica(t, kube, nil)
	source := discovery.KubernetesSource(discovery.KindBackendTLSPolicy)
	r.waitNote(t, source, "does not serve")
	target := discovery.ObjectName{Kind: discovery.KindService, Key: discovery.Key{Namespace: "web", Name: "php-web"}}
	st, _ := catalog.Sources.Get(r.catalog.Read(), source)
	require.Empty(t, st.UnreadAll)
	require.Len(t, st.Unread, 1)
	require.Equal(t, []discovery.ObjectName{target}, st.Unread[0].Targets)
	require.True(t, st.Synced)
	require.Contains(t, upstream.UnreadBackingTLS(r.catalog.Read(), target.Key, discovery.Pods, ""), "BackendTLSPolicy cannot be read: web/strict")
}
