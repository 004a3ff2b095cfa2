// Package kubetest starts a real etcd and kube-apiserver. It stands apart from
// the harness, so that only tests that need them compile client-go.
package kubetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/causeway-mesh/causeway/test/harness"
)

// Names that the API server knows from its token file.
const (
	adminToken     = "harness-admin"
	kubeFieldOwner = "causeway-harness"
)

// seldomCollect lets a server collect garbage less often than by itself: memory
// is there for the minutes that a test takes, and a server that starts and reads
// CustomResourceDefinitions spends a fifth of its time on it.
var seldomCollect = []string{"GOGC=400"}

// Options of [Start]; the zero value will do.
type Options struct {
	// Args are added to kube-apiserver's command line, after the harness' own.
	Args []string
	// AuditEverything keeps an audit log of every request; see [Kube.AuditLog].
	AuditEverything bool
}

// Kube is an etcd and a kube-apiserver: Kubernetes' API with authentication, RBAC
// and admission, and none of its controllers. So nobody deletes a namespace's
// content, collects what an owner leaves behind, makes default service accounts
// or runs a pod.
type Kube struct {
	t    harness.TB
	dir  string
	port int
	args []string

	ca        *harness.Authority
	etcd      *harness.Process
	etcdURL   string
	auditFile string

	mu     sync.Mutex
	server *harness.Process
}

// Start starts etcd and kube-apiserver on free loopback ports and waits until
// the API is ready.
func Start(t harness.TB, o Options) *Kube {
	t.Helper()
	k := &Kube{t: t, dir: t.TempDir(), port: harness.FreePort(t), ca: harness.NewAuthority(t, "kubernetes")}
	k.startEtcd()

	serving := k.ca.Issue(t, harness.CertificateOptions{
		Name:  "kube-apiserver",
		Hosts: []string{"127.0.0.1", "::1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
	})
	cert, key := serving.Write(t, k.dir, "apiserver")
	_, signing := k.ca.Issue(t, harness.CertificateOptions{Name: "service-accounts"}).Write(t, k.dir, "service-accounts")
	ca, tokens := filepath.Join(k.dir, "ca.crt"), filepath.Join(k.dir, "tokens.csv")
	err := errors.Join(
		harness.WriteFile(ca, k.ca.CertPEM),
		harness.WriteFile(tokens, []byte(adminToken+`,admin,admin,"system:masters"`+"\n")),
	)
	if err != nil {
		t.Fatalf("%v", err)
	}
	issuer := "https://kubernetes.default.svc.cluster.local"
	k.args = []string{
		"--etcd-servers=" + k.etcdURL,
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(k.port),
		// Nothing may publish the API server's address: the API refuses a loopback one.
		"--endpoint-reconciler-type=none", "--advertise-address=198.18.0.1",
		"--cert-dir=" + k.dir, "--tls-cert-file=" + cert, "--tls-private-key-file=" + key,
		"--client-ca-file=" + ca, "--token-auth-file=" + tokens,
		"--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--service-account-issuer=" + issuer, "--api-audiences=" + issuer + ",causeway",
		"--service-account-signing-key-file=" + signing, "--service-account-key-file=" + signing,
		// Its admission wants a default service account, which a controller makes.
		"--disable-admission-plugins=ServiceAccount",
		"--allow-privileged=true", "--profiling=false", "--v=1",
	}
	if o.AuditEverything {
		policy := filepath.Join(k.dir, "audit.yaml")
		k.auditFile = filepath.Join(k.dir, "audit.log")
		err := harness.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n"))
		if err != nil {
			t.Fatalf("%v", err)
		}
		k.args = append(k.args, "--audit-policy-file="+policy, "--audit-log-path="+k.auditFile)
	}
	k.args = append(k.args, o.Args...)
	k.Restart(t)
	return k
}

func (k *Kube) startEtcd() {
	k.t.Helper()
	client, peer := "http://"+harness.FreeAddress(k.t), "http://"+harness.FreeAddress(k.t)
	k.etcdURL = client
	k.etcd = harness.Start(k.t, harness.Command{Path: harness.Tool(k.t, "etcd"), Env: seldomCollect, Args: []string{
		"--name=harness", "--data-dir=" + filepath.Join(k.dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=harness=" + peer,
		"--quota-backend-bytes=" + strconv.Itoa(4<<30), "--log-level=warn",
	}})
	k.etcd.Await(k.t, 30*time.Second, "etcd", func() error {
		_, err := harness.ReadBody(http.Get(client + "/health")) //nolint:noctx,gosec // loopback, and the limit is ours
		return err
	})
}

// Server is the kube-apiserver process.
func (k *Kube) Server() *harness.Process {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.server
}

// Etcd is the etcd process.
func (k *Kube) Etcd() *harness.Process { return k.etcd }

// Host is the API's "127.0.0.1:port".
func (k *Kube) Host() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(k.port)) }

// Stop ends the API server; etcd goes on. [Kube.Restart] brings it back.
func (k *Kube) Stop() { k.Server().Stop() }

// Kill9 kills the API server (SIGKILL); etcd goes on. [Kube.Restart] brings it back.
func (k *Kube) Kill9() { k.Server().Kill() }

// Pause stops the API server (SIGSTOP): connections stay, answers do not come.
func (k *Kube) Pause() { k.Server().Pause() }

// Resume lets a paused API server go on.
func (k *Kube) Resume() { k.Server().Resume() }

// Restart starts the API server, which has ended or is ended now, on the same
// port and data, and waits until it is ready.
func (k *Kube) Restart(t harness.TB) {
	t.Helper()
	if old := k.Server(); old != nil {
		old.Stop()
	}
	server := harness.Start(k.t, harness.Command{Path: harness.Tool(t, "kube-apiserver"), Args: k.args, Env: seldomCollect, Dir: k.dir})
	k.mu.Lock()
	k.server = server
	k.mu.Unlock()
	k.WaitReady(t)
}

// WaitReady waits until the API server says that it is ready.
func (k *Kube) WaitReady(t harness.TB) {
	t.Helper()
	client := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: k.ca.Pool(), MinVersion: tls.VersionTLS12}},
	}
	defer client.CloseIdleConnections()
	k.Server().Await(t, 60*time.Second, "kube-apiserver to be ready", func() error {
		request, err := http.NewRequest(http.MethodGet, "https://"+k.Host()+"/readyz", http.NoBody) //nolint:noctx // the client has a time limit
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+adminToken)
		_, err = harness.ReadBody(client.Do(request))
		return err
	})
}

// Config is the administrator's, with no client-side rate limit.
func (k *Kube) Config() *rest.Config {
	return &rest.Config{
		Host: "https://" + k.Host(), BearerToken: adminToken,
		TLSClientConfig: rest.TLSClientConfig{CAData: k.ca.CertPEM},
		QPS:             -1,
	}
}

// UserConfig is the configuration of a user of that name and groups, who
// authenticates with a client certificate and may do what RBAC says.
func (k *Kube) UserConfig(t harness.TB, name string, groups ...string) *rest.Config {
	t.Helper()
	c := k.ca.Issue(t, harness.CertificateOptions{Name: name, Groups: groups})
	config := k.Config()
	config.BearerToken = ""
	config.CertData, config.KeyData = c.CertPEM, c.KeyPEM
	return config
}

// ServiceAccountConfig is the configuration of a service account, which is made
// if it does not exist, with a token as a pod would hold it.
func (k *Kube) ServiceAccountConfig(t harness.TB, namespace, name string) *rest.Config {
	t.Helper()
	config := k.Config()
	config.BearerToken = k.ServiceAccountToken(t, namespace, name)
	return config
}

// ServiceAccountToken is a token of a service account, which is made if it does
// not exist, for the given audiences, or the API server's if there are none.
func (k *Kube) ServiceAccountToken(t harness.TB, namespace, name string, audiences ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	accounts := k.Client(t).CoreV1().ServiceAccounts(namespace)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := accounts.Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatalf("service account %s/%s: %v", namespace, name, err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}
	token, err := accounts.CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("token of %s/%s: %v", namespace, name, err)
	}
	return token.Status.Token
}

// Client is the administrator's clientset.
func (k *Kube) Client(t harness.TB) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(k.Config())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return client
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (k *Kube) Kubeconfig(t harness.TB) string {
	t.Helper()
	return k.KubeconfigFor(t, k.Config())
}

// KubeconfigFor writes a configuration (of a user, of a service account, or one
// that leads through a proxy) as a kubeconfig and returns its path.
func (k *Kube) KubeconfigFor(t harness.TB, c *rest.Config) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["harness"] = &clientcmdapi.Cluster{
		Server: c.Host, CertificateAuthorityData: c.CAData, InsecureSkipTLSVerify: c.Insecure, TLSServerName: c.ServerName,
	}
	config.AuthInfos["harness"] = &clientcmdapi.AuthInfo{
		Token: c.BearerToken, ClientCertificateData: c.CertData, ClientKeyData: c.KeyData,
	}
	config.Contexts["harness"] = &clientcmdapi.Context{Cluster: "harness", AuthInfo: "harness"}
	config.CurrentContext = "harness"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatalf("kubeconfig: %v", err)
	}
	return path
}

// Via is a configuration that leads through a proxy in front of the API server.
func Via(c *rest.Config, p *harness.Proxy) *rest.Config {
	via := rest.CopyConfig(c)
	via.Host = "https://" + p.Address()
	return via
}

// Proxy starts a proxy in front of the API server. A proxy of TCP passes
// everything, client certificates included; one of HTTP can answer in the API
// server's place, and clients authenticate by token.
func (k *Kube) Proxy(t harness.TB, kind harness.ProxyKind) *harness.Proxy {
	t.Helper()
	o := harness.ProxyOptions{Name: "kube-proxy", Kind: kind, Target: k.Host()}
	if kind == harness.ProxyHTTP {
		c := k.ca.Issue(t, harness.CertificateOptions{Name: "proxy", Hosts: []string{"127.0.0.1", "localhost"}})
		o.Server = &tls.Config{Certificates: []tls.Certificate{c.TLS(t)}, MinVersion: tls.VersionTLS12}
		o.Client = &tls.Config{RootCAs: k.ca.Pool(), MinVersion: tls.VersionTLS12}
	}
	return harness.StartProxy(t, o)
}

// OfVersion is the administrator's configuration for an API server that says that it is of a version, such as
// v1.37.2. The one here is built without a version.
func (k *Kube) OfVersion(t harness.TB, version string) *rest.Config {
	t.Helper()
	p := k.Proxy(t, harness.ProxyHTTP)
	minor := strings.Split(version+"..", ".")[1]
	p.Fail(-1, harness.Answer{
		Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: fmt.Sprintf(`{"major": "1", "minor": %q, "gitVersion": %q, "platform": "linux/amd64"}`, minor, version),
	}, func(r *http.Request, _ []byte) bool { return r.URL.Path == "/version" })
	return Via(k.Config(), p)
}

// Compact makes etcd forget all revisions but the present one, so that a watch
// that starts from an older one is told 410 Gone (once the API server's own
// cache does not hold it either: restart it for that).
func (k *Kube) Compact(t harness.TB) {
	t.Helper()
	var now struct {
		Header struct {
			Revision string `json:"revision"`
		} `json:"header"`
	}
	key := base64.StdEncoding.EncodeToString([]byte("/"))
	err := k.etcdCall("/v3/kv/range", map[string]any{"key": key, "limit": 1}, &now)
	if err == nil {
		err = k.etcdCall("/v3/kv/compaction", map[string]any{"revision": now.Header.Revision, "physical": true}, &struct{}{})
	}
	if err != nil {
		t.Fatalf("compacting etcd: %v", err)
	}
}

// etcdCall asks etcd over its JSON gateway.
func (k *Kube) etcdCall(path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	out, err := harness.ReadBody(http.Post(k.etcdURL+path, "application/json", bytes.NewReader(data))) //nolint:noctx,gosec // loopback
	if err != nil {
		return err
	}
	return json.Unmarshal(out, answer)
}

// AuditEvent is a request that the API server served.
type AuditEvent struct {
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	UserAgent  string `json:"userAgent"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// AuditLog returns the requests served so far. Kube was started with
// AuditEverything.
func (k *Kube) AuditLog(t harness.TB) []AuditEvent {
	t.Helper()
	data, err := os.ReadFile(k.auditFile)
	if err != nil {
		t.Fatalf("audit log: %v", err)
	}
	var events []AuditEvent
	for line := range bytes.Lines(data) {
		var event AuditEvent
		if json.Unmarshal(line, &event) == nil { // the last line may be half written
			events = append(events, event)
		}
	}
	return events
}

// ApplyCRDs applies the CustomResourceDefinitions of a file or folder and waits
// until their resources are served.
func (k *Kube) ApplyCRDs(t harness.TB, path string) {
	t.Helper()
	applied := k.Apply(t, path)
	client, err := dynamic.NewForConfig(k.Config())
	if err != nil {
		t.Fatalf("%v", err)
	}
	crds := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	served, err := discovery.NewDiscoveryClientForConfig(k.Config())
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, o := range applied {
		if o.GetKind() != "CustomResourceDefinition" {
			t.Fatalf("%s: %s %s is no CustomResourceDefinition", path, o.GetKind(), o.GetName())
		}
		harness.Eventually(t, 30*time.Second, "CustomResourceDefinition "+o.GetName(), func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			now, err := crds.Get(ctx, o.GetName(), metav1.GetOptions{})
			if err != nil {
				return err
			}
			if !hasCondition(now, "Established") {
				conditions, _, _ := unstructured.NestedSlice(now.Object, "status", "conditions")
				return fmt.Errorf("it is not established: %v", conditions)
			}
			group, _, _ := unstructured.NestedString(now.Object, "spec", "group")
			plural, _, _ := unstructured.NestedString(now.Object, "spec", "names", "plural")
			versions, _, _ := unstructured.NestedSlice(now.Object, "spec", "versions")
			for _, v := range versions {
				version, _ := v.(map[string]any)
				if version["served"] != true {
					continue
				}
				name, _ := version["name"].(string)
				list, err := served.ServerResourcesForGroupVersion(group + "/" + name)
				if err != nil {
					return err
				}
				if !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == plural }) {
					return fmt.Errorf("%s/%s does not list %s yet", group, name, plural)
				}
			}
			return nil
		})
	}
}

func hasCondition(o *unstructured.Unstructured, kind string) bool {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	return slices.ContainsFunc(conditions, func(c any) bool {
		m, _ := c.(map[string]any)
		return m["type"] == kind && m["status"] == "True"
	})
}

// Apply applies (server-side, by force) all objects of a YAML file, or of the
// .yaml and .yml files of a folder and those below it. Namespaced objects without
// a namespace go to "default".
func (k *Kube) Apply(t harness.TB, path string) []*unstructured.Unstructured {
	t.Helper()
	var files []string
	err := filepath.WalkDir(path, func(file string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (file == path || strings.HasSuffix(file, ".yaml") || strings.HasSuffix(file, ".yml")) {
			files = append(files, file)
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	var applied []*unstructured.Unstructured
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("%v", err)
		}
		objects, err := ApplyTo(k.Config(), data)
		if err != nil {
			t.Fatalf("applying %s: %v", file, err)
		}
		applied = append(applied, objects...)
	}
	return applied
}

// ApplyYAML applies the objects of a YAML text.
func (k *Kube) ApplyYAML(t harness.TB, text string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := ApplyTo(k.Config(), []byte(text))
	if err != nil {
		t.Fatalf("applying: %v\n%s", err, text)
	}
	return objects
}

// ApplyTo applies the objects of a YAML text to any API server, as [Kube.Apply] does.
func ApplyTo(config *rest.Config, data []byte) ([]*unstructured.Unstructured, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	served, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(served))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	var applied []*unstructured.Unstructured
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		var o unstructured.Unstructured
		if err := documents.Decode(&o.Object); err != nil {
			if errors.Is(err, io.EOF) {
				return applied, nil
			}
			return nil, err
		}
		if len(o.Object) == 0 {
			continue
		}
		kind := o.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", kind.Kind, o.GetName(), err)
		}
		var resource dynamic.ResourceInterface = client.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			if o.GetNamespace() == "" {
				o.SetNamespace(metav1.NamespaceDefault)
			}
			resource = client.Resource(mapping.Resource).Namespace(o.GetNamespace())
		}
		result, err := resource.Apply(ctx, o.GetName(), &o, metav1.ApplyOptions{FieldManager: kubeFieldOwner, Force: true})
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", kind.Kind, o.GetName(), err)
		}
		applied = append(applied, result)
	}
}

// Namespace makes a namespace and returns its name.
func (k *Kube) Namespace(t harness.TB, name string) string {
	t.Helper()
	k.ApplyYAML(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+name+"}\n")
	return name
}
