package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/causeway-mesh/causeway/test/harness"
)

const (
	etcdAddress = "127.0.0.1:2379"
	socket      = inside + "/containerd.sock"
	pki         = inside + "/pki/"
	etc         = inside + "/etc/"
)

// tools are the programs from .tools/bin, which test/tools/get builds.
var tools = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns"}

// packaged are the programs from Debian's packages.
var packaged = []string{"/usr/bin/containerd", "/usr/bin/ctr", "/usr/sbin/runc", "/usr/lib/cni/bridge", "/usr/sbin/nft", "/usr/sbin/ip"}

// tool is the path of a program of tools.
func tool(name string) (string, error) {
	dir := os.Getenv("CAUSEWAY_TOOLS")
	if dir == "" {
		root, err := harness.Root()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(root, ".tools")
	}
	return filepath.Join(dir, "bin", name), nil
}

// findTools says which programs are missing, and what brings them.
func findTools() error {
	var missing []string
	for _, name := range tools {
		path, err := tool(name)
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			missing = append(missing, name)
		}
	}
	for _, path := range packaged {
		if _, err := exec.LookPath(path); err != nil {
			missing = append(missing, "containerd")
			break
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("tools are missing: run `make tools-cluster`, or test/tools/get %s", strings.Join(missing, " "))
	}
	return nil
}

// daemons are the processes of the cluster that are no pods.
func (c *Cluster) daemons() []daemon {
	bin := func(name string) string {
		path, _ := tool(name) // findTools has found it
		return path
	}
	kubeconfig := func(name string) string { return "--kubeconfig=" + etc + name + ".kubeconfig" }
	return []daemon{
		{name: "etcd", args: []string{
			bin("etcd"), "--name=cluster", "--data-dir=" + inside + "/etcd", "--unsafe-no-fsync", "--log-level=warn",
			"--listen-client-urls=http://" + etcdAddress, "--advertise-client-urls=http://" + etcdAddress,
			"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
			"--initial-cluster=cluster=http://127.0.0.1:2380",
		}},
		{name: "containerd", args: []string{"/usr/bin/containerd", "--config=" + etc + "containerd.toml"}},
		{name: "kube-apiserver", after: []string{etcdAddress}, args: []string{
			bin("kube-apiserver"), "--etcd-servers=http://" + etcdAddress,
			"--bind-address=" + NodeIP, "--advertise-address=" + NodeIP, "--secure-port=6443",
			"--tls-cert-file=" + pki + "apiserver.crt", "--tls-private-key-file=" + pki + "apiserver.key", "--client-ca-file=" + pki + "ca.crt",
			"--service-account-issuer=https://kubernetes.default.svc." + domain,
			"--service-account-key-file=" + pki + "accounts.key", "--service-account-signing-key-file=" + pki + "accounts.key",
			"--kubelet-client-certificate=" + pki + "apiserver-kubelet.crt", "--kubelet-client-key=" + pki + "apiserver-kubelet.key",
			"--kubelet-certificate-authority=" + pki + "ca.crt", "--kubelet-preferred-address-types=InternalIP",
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
			"--service-cluster-ip-range=" + ServiceRange, "--profiling=false",
		}},
		{name: "kube-controller-manager", after: []string{apiAddress}, args: []string{
			bin("kube-controller-manager"), kubeconfig("controller-manager"), "--bind-address=127.0.0.1", "--leader-elect=false",
			"--use-service-account-credentials=true", "--root-ca-file=" + pki + "ca.crt", "--service-account-private-key-file=" + pki + "accounts.key",
			"--allocate-node-cidrs=true", "--cluster-cidr=" + podRange, "--service-cluster-ip-range=" + ServiceRange, "--profiling=false",
		}},
		{name: "kube-scheduler", after: []string{apiAddress}, args: []string{
			bin("kube-scheduler"), kubeconfig("scheduler"), "--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false",
		}},
		{name: "kubelet", after: []string{apiAddress, socket}, args: []string{
			bin("kubelet"), "--config=" + etc + "kubelet.yaml", kubeconfig("kubelet"), "--hostname-override=" + Node, "--node-ip=" + NodeIP,
			"--node-labels=topology.kubernetes.io/zone=" + Zone,
		}},
		{name: "kube-proxy", after: []string{apiAddress}, args: []string{bin("kube-proxy"), "--config=" + etc + "kube-proxy.yaml"}},
	}
}

// configure writes the files that the daemons are started with.
func (c *Cluster) configure(t harness.TB) error {
	if err := mkdirs(c.path("pki"), c.path("etc", "cni"), c.path("log"), c.path("run"), c.path("images")); err != nil {
		return err
	}
	ca := c.certificates(t)
	files := map[string]string{
		"etc/containerd.toml": containerdTOML,
		"etc/kubelet.yaml":    fmt.Sprintf(kubeletYAML, c.cgroup()),
		"etc/kube-proxy.yaml": kubeProxyYAML,
		// Pods that have the node's resolver have none.
		"etc/resolv.conf":            "",
		"etc/cni/10-bridge.conflist": cniConflist,
	}
	for name, text := range files {
		if err := harness.WriteFile(c.path(name), []byte(text)); err != nil {
			return err
		}
	}
	for name, user := range map[string]harness.CertificateOptions{
		"kubeconfig":                        {Name: "admin", Groups: []string{"system:masters"}},
		"etc/controller-manager.kubeconfig": {Name: "system:kube-controller-manager"},
		"etc/scheduler.kubeconfig":          {Name: "system:kube-scheduler"},
		"etc/kubelet.kubeconfig":            {Name: "system:node:" + Node, Groups: []string{"system:nodes"}},
		"etc/kube-proxy.kubeconfig":         {Name: "system:kube-proxy"},
	} {
		user.Lifetime = lifetime
		if err := writeKubeconfig(c.path(name), ca.CertPEM, ca.Issue(t, user)); err != nil {
			return err
		}
	}
	return nil
}

const containerdTOML = `version = 2
root = "` + inside + `/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "` + socket + `"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + workloadImage + `"
  disable_apparmor = true
  # Where the machine's root lacks CAP_SYS_RESOURCE, no process can have a lower score than its parent.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "` + etc + `cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`

const cniConflist = `{"cniVersion": "1.0.0", "name": "cluster", "plugins": [{
  "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "` + inside + `/ipam", "ranges": [[{"subnet": "` + nodeRange + `"}]], "routes": [{"dst": "0.0.0.0/0"}]}
}]}
`

const kubeletYAML = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: ` + NodeIP + `
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /%s
failSwapOn: false
oomScoreAdj: 0
containerRuntimeEndpoint: unix://` + socket + `
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: ` + pki + `ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: ` + pki + `kubelet.crt
tlsPrivateKeyFile: ` + pki + `kubelet.key
clusterDNS: [` + dnsIP + `]
clusterDomain: ` + domain + `
resolvConf: ` + etc + `resolv.conf
makeIPTablesUtilChains: false
# A full disk of the machine is not the tests' affair.
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%", imagefs.inodesFree: "0%%"}
imageGCHighThresholdPercent: 100
serializeImagePulls: false
volumePluginDir: ` + inside + `/volumeplugins
# Pods of tests come and go quickly.
kubeAPIQPS: 100
kubeAPIBurst: 200
syncFrequency: 10s
configMapAndSecretChangeDetectionStrategy: Watch
`

const kubeProxyYAML = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: ` + podRange + `
oomScoreAdj: 0
bindAddress: ` + NodeIP + `
hostnameOverride: ` + Node + `
clientConnection: {kubeconfig: ` + etc + `kube-proxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0}
nodePortAddresses: ["` + NodeIP + `/32"]
`
