package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// source is where the server under test reads the mesh from.
type source interface {
	// args are the server's flags.
	args() []string
	// load makes the mesh, or makes what is there larger.
	load(ctx context.Context, m mesh) error
	// setAddress gives the first endpoint of Service i another address.
	setAddress(ctx context.Context, i int, address string) error
	// editRoute makes the n-th change of routeService's virtual host, and of
	// nothing else.
	editRoute(ctx context.Context, n int) error
	// editHTTPRoute makes the n-th edit of the HTTPRoute of editedService.
	editHTTPRoute(ctx context.Context, n int) error
	// rezone spreads the endpoints of all Services over other zones.
	rezone(ctx context.Context, m mesh) error
}

// watcher is a source that can be watched by others than the server under test.
type watcher interface {
	// delay makes a change as setAddress does and returns the time from before it
	// until a watch of the object shows it.
	delay(ctx context.Context, i int, address string) (time.Duration, error)
}

// kubeSource is a real kube-apiserver.
type kubeSource struct {
	client     kubernetes.Interface
	routes     dynamic.ResourceInterface
	kubeconfig string
	loaded     int
}

// loaders is how many requests are made at a time while a mesh is made.
const loaders = 24

func newKubeSource(t harness.TB) (*kubeSource, error) {
	k := kubetest.Start(t, kubetest.Options{})
	root, err := harness.Root()
	if err != nil {
		return nil, err
	}
	k.ApplyCRDs(t, filepath.Join(root, "manifests", "crds"))
	k.ApplyCRDs(t, filepath.Join(root, "manifests", "gateway-api", "standard"))
	config := rest.CopyConfig(k.Config())
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	untyped := rest.CopyConfig(k.Config())
	untyped.QPS = -1
	objects, err := dynamic.NewForConfig(untyped)
	if err != nil {
		return nil, err
	}
	k.Namespace(t, namespace)
	k.Namespace(t, "causeway-system")
	routes := objects.Resource(schema.GroupVersionResource{Group: gatewayv1.GroupName, Version: "v1", Resource: "httproutes"}).Namespace(namespace)
	return &kubeSource{client: client, routes: routes, kubeconfig: k.Kubeconfig(t)}, nil
}

func (s *kubeSource) args() []string { return []string{"--kubeconfig", s.kubeconfig} }

func (s *kubeSource) create(ctx context.Context, service *corev1.Service, slices ...*discoveryv1.EndpointSlice) error {
	if _, err := s.client.CoreV1().Services(namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("service %s: %w", service.Name, err)
	}
	for _, slice := range slices {
		if _, err := s.client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, slice, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("EndpointSlice %s: %w", slice.Name, err)
		}
	}
	return nil
}

func (s *kubeSource) load(ctx context.Context, m mesh) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(loaders)
	for i := s.loaded; i < m.services; i++ {
		g.Go(func() error {
			service, slice := m.objects(i)
			return s.create(ctx, service, slice)
		})
	}
	g.Go(func() error {
		return s.create(ctx, m.service(routeService), m.slice(routeService, firstChanged-2000), m.instances())
	})
	g.Go(func() error {
		return s.create(ctx, m.service(editedService), m.slice(editedService, firstChanged-3000))
	})
	g.Go(func() error { return s.editHTTPRoute(ctx, 0) })
	err := g.Wait()
	s.loaded = m.services
	return err
}

func (s *kubeSource) editHTTPRoute(ctx context.Context, n int) error {
	data, err := json.Marshal(httpRoute(n))
	if err != nil {
		return err
	}
	force := true
	_, err = s.routes.Patch(ctx, editedService, types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "bench", Force: &force})
	return err
}

func (s *kubeSource) setAddress(ctx context.Context, i int, address string) error {
	patch := fmt.Sprintf(`[{"op":"replace","path":"/endpoints/0/addresses/0","value":%q}]`, address)
	_, err := s.client.DiscoveryV1().EndpointSlices(namespace).Patch(ctx, serviceName(i), types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

func (s *kubeSource) delay(ctx context.Context, i int, address string) (time.Duration, error) {
	w, err := s.client.DiscoveryV1().EndpointSlices(namespace).Watch(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + serviceName(i),
	})
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	if _, ok := <-w.ResultChan(); !ok { // the object as it is
		return 0, errors.New("the watch ended")
	}
	start := time.Now()
	patched := make(chan error, 1)
	go func() { patched <- s.setAddress(ctx, i, address) }()
	limit := time.After(10 * time.Second)
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				return 0, errors.Join(errors.New("the watch ended"), <-patched)
			}
			if slice, ok := e.Object.(*discoveryv1.EndpointSlice); ok && slice.Endpoints[0].Addresses[0] == address {
				took := time.Since(start)
				return took, <-patched
			}
		case <-limit:
			return 0, errors.Join(errors.New("the watch does not show a change"), <-patched)
		}
	}
}

// editRoute moves the home of a Service that has pods and instances.
func (s *kubeSource) editRoute(ctx context.Context, n int) error {
	home := []string{upstream.HomePods, upstream.HomeInstances}[n%2]
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{v1alpha1.HomeAnnotation: home}}})
	if err != nil {
		return err
	}
	_, err = s.client.CoreV1().Services(namespace).Patch(ctx, routeService, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (s *kubeSource) rezone(ctx context.Context, m mesh) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(loaders)
	for i := range m.services {
		g.Go(func() error {
			_, slice := m.objects(i)
			_, err := s.client.DiscoveryV1().EndpointSlices(namespace).Update(ctx, slice, metav1.UpdateOptions{})
			return err
		})
	}
	return g.Wait()
}

// fileSource is a directory of YAML with a file for each Service. The server
// waits for a directory to settle, so changes take longer to arrive than from
// Kubernetes.
type fileSource struct {
	dir string

	mu     sync.Mutex
	mesh   mesh
	slices map[int]*discoveryv1.EndpointSlice
}

func newFileSource(dir string) *fileSource {
	return &fileSource{dir: dir, slices: make(map[int]*discoveryv1.EndpointSlice)}
}

func (s *fileSource) args() []string { return []string{"--config", s.dir} }

func (s *fileSource) write(name string, objects ...any) error {
	var text bytes.Buffer
	for _, o := range objects {
		doc, err := yaml.Marshal(o)
		if err != nil {
			return err
		}
		text.WriteString("---\n")
		text.Write(doc)
	}
	// The server takes no notice of a name that begins with a dot.
	temporary := filepath.Join(s.dir, "."+name)
	return errors.Join(
		os.WriteFile(temporary, text.Bytes(), 0o600),
		os.Rename(temporary, filepath.Join(s.dir, name+".yaml")),
	)
}

func (s *fileSource) load(_ context.Context, m mesh) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := s.mesh.services; i < m.services; i++ {
		service, slice := m.objects(i)
		s.slices[i] = slice
		if err := s.write(service.Name, service, slice); err != nil {
			return err
		}
	}
	s.mesh = m
	return errors.Join(
		s.write(routeService, m.service(routeService), m.slice(routeService, firstChanged-2000)),
		s.write(editedService, m.service(editedService), m.slice(editedService, firstChanged-3000), httpRoute(0)),
	)
}

func (s *fileSource) editHTTPRoute(_ context.Context, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(editedService, s.mesh.service(editedService), s.mesh.slice(editedService, firstChanged-3000), httpRoute(n))
}

func (s *fileSource) setAddress(_ context.Context, i int, address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slices[i].Endpoints[0].Addresses[0] = address
	return s.write(serviceName(i), s.mesh.service(serviceName(i)), s.slices[i])
}

// editRoute gives the Service another cluster IP, which is one of the names
// that its virtual host answers to. Instances are not for files to state.
func (s *fileSource) editRoute(_ context.Context, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	service := s.mesh.service(routeService)
	service.Spec.ClusterIP = fmt.Sprintf("10.96.0.%d", 10+n%2)
	return s.write(routeService, service, s.mesh.slice(routeService, firstChanged-2000))
}

func (s *fileSource) rezone(_ context.Context, m mesh) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range m.services {
		service, slice := m.objects(i)
		s.slices[i] = slice
		if err := s.write(service.Name, service, slice); err != nil {
			return err
		}
	}
	s.mesh = m
	return nil
}
