package cluster

import (
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/causeway-mesh/causeway/test/harness"
)

// lifetime of certificates: that of the authority, less what a start takes.
const lifetime = 29 * 24 * time.Hour

// certificates writes those of the servers, and the key that signs service accounts' tokens.
func (c *Cluster) certificates(t harness.TB) *harness.Authority {
	ca := harness.NewAuthority(t, "kubernetes")
	if err := harness.WriteFile(c.path("pki", "ca.crt"), ca.CertPEM); err != nil {
		t.Fatalf("%v", err)
	}
	for name, o := range map[string]harness.CertificateOptions{
		"apiserver": {Name: "kube-apiserver", Hosts: []string{
			NodeIP, apiIP, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain,
		}},
		"apiserver-kubelet": {Name: "kube-apiserver-kubelet-client"},
		"kubelet":           {Name: Node, Hosts: []string{Node, NodeIP}},
		"accounts":          {Name: "service-accounts"},
	} {
		o.Lifetime = lifetime
		ca.Issue(t, o).Write(t, c.path("pki"), name)
	}
	return ca
}

// writeKubeconfig writes one that has its certificates in it.
func writeKubeconfig(path string, ca []byte, user harness.Certificate) error {
	const name = "cluster"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: "https://" + apiAddress, CertificateAuthorityData: ca}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: user.CertPEM, ClientKeyData: user.KeyPEM}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, path)
}
