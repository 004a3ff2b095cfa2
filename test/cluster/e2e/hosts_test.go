package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/cluster"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
)

// A Service moves from hosts with the agent to injected pods, called by a host and by a pod that know its
// cluster name and nothing else. A release that fails is taken back; no request fails by the mesh.
func TestShiftFromHostsToPods(t *testing.T) {
	c := attach(t)
	dir := c.userDirectory(t)
	c.removeRest(t, dir)
	moto := mototest.Start(t, mototest.Options{Zones: "a", CIDR: "10.244.0.0/22"}) // whose first quarter is the node's pods
	c.addInjection(t, dir)
	c.addEC2(t, dir, moto)
	c.certificates(t, dir)
	c.install(t, dir)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", c.kubectl(t, "get", "pods,endpointslices,trafficshifts,instancegroups", "-A", "-o", "wide"))
			t.Logf("%s", c.kubectl(t, "-n", "web", "logs", "-l", "part=application", "--all-containers", "--prefix", "--tail=15"))
			t.Logf("%s", c.kubectl(t, "-n", system, "logs", "-l", "app.kubernetes.io/name=causeway", "--tail=30"))
		}
		c.removeRest(t, dir)
	})

	c.apply(t, strings.NewReplacer(
		"pod-security.kubernetes.io/enforce: restricted", "mesh.causeway.dev/inject: enabled",
		"metadata: {name: users, namespace: web}\nspec: {selector", "metadata: {name: users, namespace: web, annotations: {mesh.causeway.dev/home: Instances}}\nspec: {selector",
		"volumeMounts: [{name: tmp, mountPath: /tmp}]\n      volumes: [{name: tmp", "volumeMounts: [{name: tmp, mountPath: /tmp}, {name: release, mountPath: /etc/release}]\n      volumes: [{name: release, configMap: {name: release}}, {name: tmp",
	).Replace(web)+release)
	c.identity(t, dir)
	var hosts []netip.Addr
	for _, name := range []string{"host-0", "host-1"} {
		c.apply(t, host(name, workloads))
		hosts = append(hosts, c.runningAt(t, name))
	}
	moto.Launch(t, mototest.LaunchOptions{Addresses: hosts, Tags: map[string]string{"Role": "users"}})
	c.apply(t, instances)
	require.NoError(t, c.WaitDeployment(t.Context(), "web", "users", 2*time.Minute))

	const asks = "    args: [load, '--url=http://users.web.svc.cluster.local:80/', --rate=100, --accept=500]\n"
	c.apply(t, host("host-caller", "  - name: load\n    image: "+cluster.WorkloadImage+"\n    imagePullPolicy: Never\n"+asks))
	c.apply(t, strings.Replace(frontLoad, "    args: [load, \"--url=http://front.web.svc.cluster.local:80/\", --rate=100]\n", asks, 1))
	m := &moving{onCluster: c, t: t, began: time.Now()}
	for _, name := range []string{"host-caller", "load"} {
		m.callers = append(m.callers, c.runningAt(t, name).String())
	}
	m.await("the hosts to answer", func() error { return m.answers("instances", 500) })
	require.Zero(t, m.sum("pods"), "the Service is at home on its hosts")
	m.tell("two EC2 hosts serve users.web; a host and a pod call it by its cluster name")

	c.apply(t, shift)
	m.reach("10 %", func(s *v1alpha1.TrafficShift) bool { return s.Status.Percent == "10" })
	m.tell("the pods get a bad release: it answers 500")
	c.kubectl(t, "-n", "web", "set", "env", "deployment/users", "-c", "php-fpm", "WORKLOAD_DIR=/etc/release")
	m.reach("the bad release to be taken back", func(s *v1alpha1.TrafficShift) bool { return s.Status.Percent == "0" && s.Status.RolledBack })
	c.kubectl(t, "-n", "web", "set", "env", "deployment/users", "-c", "php-fpm", "WORKLOAD_DIR=/tmp")
	require.NoError(t, c.WaitDeployment(t.Context(), "web", "users", 3*time.Minute))
	m.promote("the release is fixed")
	m.reach("50 %, waiting for approval", func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Percent == "50" && s.Status.Phase == v1alpha1.ShiftAwaitingApproval
	})
	m.promote("half of it is good")
	m.reach("completed", func(s *v1alpha1.TrafficShift) bool { return s.Status.Phase == v1alpha1.ShiftCompleted })

	before := m.sum("instances")
	least := m.sum("pods") + 1000
	m.await("the pods to answer", func() error { return m.answers("pods", least) })
	m.tell("the pods are the Service's home")
	require.InDelta(t, before, m.sum("instances"), 100, "the pods are the home")
	for _, at := range m.callers {
		r := c.load(t, at)
		t.Logf("%s", r)
		require.Zero(t, r.Failed, "%+v", r.Failures)
	}
}

// moving is a Service that moves, and who calls it.
type moving struct {
	*onCluster
	t       *testing.T
	callers []string // where their loads tell what they have counted
	began   time.Time
}

// tell says what has happened and what the callers have counted so far: in the test's log, and for
// `make demo-cluster` on the terminal.
func (m *moving) tell(what string) {
	m.t.Helper()
	var failed int64
	for _, at := range m.callers {
		r := m.load(m.t, at)
		failed += r.Failed
	}
	since := time.Since(m.began).Seconds()
	m.t.Logf("%.0f s: %s; by hosts %d, by pods %d, failed by the mesh %d", since, what, m.sum("instances"), m.sum("pods"), failed)
	if os.Getenv("CAUSEWAY_E2E_DEMO") != "" {
		fmt.Printf("%4.0f s  %s\n        answers: %d by EC2 hosts, %d by pods; failed by the mesh: %d\n", since, what, m.sum("instances"), m.sum("pods"), failed)
	}
}

func (m *moving) sum(platform string) (n int64) {
	for _, at := range m.callers {
		r := m.load(m.t, at)
		n += r.Platforms()[platform]
	}
	return n
}

func (m *moving) answers(platform string, least int64) error {
	if n := m.sum(platform); n < least {
		return fmt.Errorf("%s have answered %d times", platform, n)
	}
	return nil
}

func (m *moving) await(what string, f func() error) {
	m.t.Helper()
	harness.Eventually(m.t, 2*time.Minute, what, f)
}

// reach waits until the shift is as it should be.
func (m *moving) reach(what string, is func(*v1alpha1.TrafficShift) bool) {
	m.t.Helper()
	harness.Eventually(m.t, 3*time.Minute, what, func() error {
		raw, err := m.client.Discovery().RESTClient().Get().AbsPath("/apis/mesh.causeway.dev/v1alpha1/namespaces/web/trafficshifts/users").DoRaw(m.t.Context())
		if err != nil {
			return err
		}
		var s v1alpha1.TrafficShift
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		if !is(&s) {
			text, _ := json.MarshalIndent(s.Status, "", " ")
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	m.tell("the shift: " + what)
}

// promote runs `causeway shift promote` as an operator does.
func (m *moving) promote(reason string) {
	m.t.Helper()
	out, err := m.run(m.t, m.root(m.t), filepath.Join(m.root(m.t), "bin", "causeway"), "shift", "promote", "web/users", "--reason", reason, "--kubeconfig", m.Kubeconfig())
	require.NoErrorf(m.t, err, "%s", out)
}

// runningAt waits until a pod runs, and returns its address.
func (c *onCluster) runningAt(t *testing.T, name string) netip.Addr {
	t.Helper()
	require.NoError(t, c.WaitPod(t.Context(), "web", name, time.Minute))
	pod := c.pod(t, "app="+name)
	return netip.MustParseAddr(pod.Status.PodIP)
}

// addEC2 leads the control plane to an EC2 API, which listens on this machine: the cluster's network
// has no way to it, so connections are carried there.
func (c *onCluster) addEC2(t *testing.T, dir string, moto *mototest.Moto) {
	t.Helper()
	l, err := c.Listen(t.Context(), "tcp", net.JoinHostPort(cluster.NodeIP, "0"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		harness.Carry(ctx, l, strings.TrimPrefix(moto.Endpoint(), "http://"))
	}()

	var env []string
	for _, e := range moto.Env() {
		name, value, _ := strings.Cut(e, "=")
		if name == "AWS_ENDPOINT_URL" {
			value = "http://" + l.Addr().String()
		}
		env = append(env, fmt.Sprintf("{name: %s, value: %q}", name, value))
	}
	file := filepath.Join(dir, "mesh", "kustomization.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, fmt.Appendf(text, `patches:
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: causeway, namespace: causeway-system}
    spec: {template: {spec: {containers: [{name: causeway, env: [%s]}]}}}
- target: {kind: Deployment, name: causeway}
  patch: |
    - {op: add, path: /spec/template/spec/containers/0/args/-, value: --ec2-interval=1s}
`, strings.Join(env, ", ")), 0o644))
}

// host is an EC2 host: a network of its own with the agent, its capture for hosts and programs, in a
// pod that neither a Service nor the injection knows.
func host(name, programs string) string {
	return fmt.Sprintf(hostPod, name, name, name) + programs
}

const hostPod = `
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: web, labels: {app: %s, part: application, mesh.causeway.dev/inject: "false"}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 5
  securityContext: {fsGroup: 1337}
  volumes:
  - {name: tmp, emptyDir: {medium: Memory}}
  - {name: state, emptyDir: {}}
  - {name: tls, secret: {secretName: causeway-proxy-tls, defaultMode: 0440}}
  initContainers:
  - name: capture
    image: ` + cluster.AgentImage + `
    imagePullPolicy: Never
    args: [agent, capture, --mode=host, --proxy-users=1337, --dns=redirect]
    securityContext: {runAsUser: 0, capabilities: {drop: [ALL], add: [NET_ADMIN]}}
  - name: agent
    image: ` + cluster.AgentImage + `
    imagePullPolicy: Never
    restartPolicy: Always
    args:
    - agent
    - run
    - --namespace=web
    - --workload=users-host
    - --id=%s
    - --server=causeway.causeway-system.svc:18000
    - --tls-ca=/etc/causeway/tls/ca.crt
    - --tls-server-name=causeway.causeway-system.svc
    - --tls-cert=/etc/causeway/tls/tls.crt
    - --tls-key=/etc/causeway/tls/tls.key
    - --state-dir=/var/lib/causeway-agent
    - --listen=:15020
    - --dns-listen=127.0.0.1:15053
    - --captured-listen=127.0.0.1:15002=240.0.0.0/4
    - --drain-timeout=3s
    startupProbe: {httpGet: {path: /ready, port: 15020}, periodSeconds: 1, failureThreshold: 60}
    securityContext: {runAsUser: 1337, runAsGroup: 1337, runAsNonRoot: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: state, mountPath: /var/lib/causeway-agent}, {name: tls, mountPath: /etc/causeway/tls, readOnly: true}]
  containers:
`

// workloads are nginx and php-fpm.
const workloads = `  - name: nginx
    image: ` + cluster.PHPImage + `
    imagePullPolicy: Never
    command: [/usr/sbin/nginx, -e, stderr, -c, /etc/nginx/nginx.conf]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
    securityContext: {runAsUser: 65532, runAsGroup: 65532}
    volumeMounts: [{name: tmp, mountPath: /tmp}]
  - name: php-fpm
    image: ` + cluster.PHPImage + `
    imagePullPolicy: Never
    command: [/usr/sbin/php-fpm, -F, -y, /etc/php-fpm.conf]
    env:
    - {name: WORKLOAD_PLATFORM, value: instances}
    - {name: WORKLOAD_DIR, value: /tmp}
    - {name: WORKLOAD_ZONE, value: ` + cluster.Zone + `}
    - {name: WORKLOAD_ID, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    securityContext: {runAsUser: 65532, runAsGroup: 65532}
    volumeMounts: [{name: tmp, mountPath: /tmp}]
`

// release is what a bad release brings along.
const release = `
---
apiVersion: v1
kind: ConfigMap
metadata: {name: release, namespace: web}
data:
  fault: '{"percent": 100, "code": 500, "path": "", "ms": 0}'
`

const instances = `
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: users-ec2, namespace: web}
spec:
  serviceRef: {name: users}
  region: ap-northeast-1
  selector: {tags: {Role: users}}
  ports: [{name: http, port: 8080}]
  healthCheck: {http: {path: /healthz}, interval: 1s}
`

const shift = `
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: users, namespace: web}
spec:
  serviceRef: {name: users}
  steps:
  - {percent: "10", hold: 4s}
  - {percent: "50", approval: Required}
  - {percent: "100", hold: 4s}
  guard:
    successRate: {atLeast: "99"}
    errorBudget: {objective: "99.9", maxBurnRate: "1000"}
    minRequests: 15
    window: 5s
  capacity: {minReadyPods: 2, keepSourcePercent: 0}
`
