//go:build tools

// Package kubernetes pins the Kubernetes that tests run on: the kube-apiserver of most,
// and the other parts of the cluster in test/cluster. It is a module of its own because
// k8s.io/kubernetes needs a replace for each staging module, which must not leak into the
// product's go.mod.
package kubernetes

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubectl"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
