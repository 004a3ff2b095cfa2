// Package meshtest has what the tests of those who read a cluster and of those who act on
// one have in common: API servers with what the manifests install, and replicas of a
// control plane on them.
package meshtest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// Servers are API servers with what the manifests install and the Gateway API, at most so many at once.
func Servers(most int) *kubetest.Pool {
	return &kubetest.Pool{Most: most, Prepare: func(t harness.TB, k *kubetest.Kube) {
		install(t, k, filepath.Join("gateway-api", "experimental"))
	}}
}

// ServersWithoutGatewayAPI are API servers with what the manifests install, at most so many at once.
func ServersWithoutGatewayAPI(most int) *kubetest.Pool {
	return &kubetest.Pool{Most: most, Prepare: func(t harness.TB, k *kubetest.Kube) { install(t, k) }}
}

// install applies what the manifests install, and more folders of CRDs.
func install(t harness.TB, k *kubetest.Kube, more ...string) {
	t.Helper()
	root, err := harness.Root()
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, crds := range append([]string{"crds"}, more...) {
		k.ApplyCRDs(t, filepath.Join(root, "manifests", crds))
	}
	k.Namespace(t, "web")
	for _, file := range []string{"namespace.yaml", "rbac.yaml", "guard-deletion.yaml", "gateway-secrets.yaml"} {
		k.Apply(t, filepath.Join(root, "manifests", "install", file))
	}
	k.Apply(t, filepath.Join(root, "manifests", "gateways", "rbac.yaml"))
}

// Replica is a client with a catalog of its own and exactly the manifests' rights.
type Replica struct {
	*cluster.Client
	Catalog *catalog.Catalog
}

// NewReplica returns a replica whose source has synced. Without a config it has the service
// account of the manifests.
func NewReplica(t *testing.T, kube *kubetest.Kube, config *rest.Config, log *slog.Logger, source func(*cluster.Client) catalog.Source) *Replica {
	t.Helper()
	if config == nil {
		config = kube.ServiceAccountConfig(t, "causeway-system", "causeway")
	}
	r := &Replica{Client: NewClient(t, config, log), Catalog: catalog.New()}
	s := source(r.Client)
	Run(t, func(ctx context.Context) error { return s.Run(ctx, r.Catalog) })
	harness.Eventually(t, 20*time.Second, "the sources have synced", func() error {
		for _, name := range s.Required() {
			if st, ok := catalog.Sources.Get(r.Catalog.Read(), name); !ok || !st.Synced {
				return fmt.Errorf("%s: %+v", name, st)
			}
		}
		return nil
	})
	return r
}

// NewClient returns a client that reads nothing by itself. Without a logger it logs nothing.
func NewClient(t *testing.T, config *rest.Config, log *slog.Logger) *cluster.Client {
	t.Helper()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c, err := cluster.NewClient(config, "causeway-system", log)
	require.NoError(t, err)
	return c
}

// Run runs a part until the test ends, or until the function that it returns is called.
func Run(t *testing.T, part func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = part(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// Addresses returns the addresses that a Service's endpoints have, sorted.
func (r *Replica) Addresses(service string) []string {
	out := []string{}
	for set := range catalog.Endpoints.By(r.Catalog.Read(), catalog.ByService, service) {
		for _, e := range set.Endpoints {
			out = append(out, e.Address)
		}
	}
	slices.Sort(out)
	return out
}

// WaitAddresses waits until a Service's endpoints have these addresses, sorted.
func (r *Replica) WaitAddresses(t *testing.T, service string, want ...string) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, fmt.Sprintf("%s has %v", service, want), func() error {
		if got := r.Addresses(service); !slices.Equal(got, want) {
			return fmt.Errorf("it has %v", got)
		}
		return nil
	})
}

// API is the API as an administrator reaches it.
func API(t *testing.T, kube *kubetest.Kube) rest.Interface {
	t.Helper()
	return kube.Client(t).Discovery().RESTClient()
}

// PathIn returns the path of an object in the API.
func PathIn(kind, namespace, name string) string {
	for _, k := range objects.Kinds() {
		if k.Name != kind {
			continue
		}
		path := "/apis/" + k.APIVersion
		if k.APIVersion == "v1" {
			path = "/api/v1"
		}
		if k.Namespaced {
			path += "/namespaces/" + namespace
		}
		return path + "/" + k.Resource + "/" + name
	}
	panic("no kind " + kind)
}

// DeleteObject deletes an object.
func DeleteObject(t *testing.T, kube *kubetest.Kube, kind, namespace, name string) {
	t.Helper()
	require.NoError(t, API(t, kube).Delete().AbsPath(PathIn(kind, namespace, name)).Do(t.Context()).Error())
}

// InstallGatewayAPI applies the CRDs of a channel.
func InstallGatewayAPI(t *testing.T, kube *kubetest.Kube, channel string) {
	t.Helper()
	root, err := harness.Root()
	require.NoError(t, err)
	kube.ApplyCRDs(t, filepath.Join(root, "manifests", "gateway-api", channel))
}

// WaitRow waits until an object's row satisfies check; no row is nil.
func (r *Replica) WaitRow(t *testing.T, name, what string, check func(*discovery.Object) bool) *discovery.Object {
	t.Helper()
	var row *discovery.Object
	harness.Eventually(t, 30*time.Second, name+" "+what, func() error {
		row, _ = catalog.Objects.Get(r.Catalog.Read(), name)
		if !check(row) {
			return fmt.Errorf("the row is %+v", row)
		}
		return nil
	})
	return row
}

// WaitNote waits for a text in what a source notes.
func (r *Replica) WaitNote(t *testing.T, source, text string) {
	t.Helper()
	harness.Eventually(t, 40*time.Second, fmt.Sprintf("%s notes %q", source, text), func() error {
		st, _ := catalog.Sources.Get(r.Catalog.Read(), source)
		if st == nil || !strings.Contains(st.Note, text) || text == "" && st.Note != "" {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
}

// There is a check of WaitRow.
func There(o *discovery.Object) bool { return o != nil }

// Gone is a check of WaitRow.
func Gone(o *discovery.Object) bool { return o == nil }

// ShiftPath is the path of the TrafficShifts of namespace web.
const ShiftPath = "/apis/mesh.causeway.dev/v1alpha1/namespaces/web/trafficshifts/"

// ApplyShift makes or changes a TrafficShift of web/php-web.
func ApplyShift(t *testing.T, kube *kubetest.Kube, name string) {
	t.Helper()
	kube.ApplyYAML(t, fmt.Sprintf(`
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: %s, namespace: web}
spec:
  serviceRef: {name: php-web}
  steps: [{percent: "1", hold: 10m}, {percent: "100", hold: 10m}]
`, name))
}

// ReadShift returns a TrafficShift as it is in the cluster, nil if there is none.
func ReadShift(t *testing.T, kube *kubetest.Kube, name string) *v1alpha1.TrafficShift {
	t.Helper()
	raw, err := API(t, kube).Get().AbsPath(ShiftPath + name).DoRaw(t.Context())
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(t, err)
	out := new(v1alpha1.TrafficShift)
	require.NoError(t, json.Unmarshal(raw, out))
	return out
}
