//go:build tools

// Package kubernetes pins the kube-apiserver that tests run on. It is a module
// of its own because k8s.io/kubernetes needs a replace for each staging module,
// which must not leak into the product's go.mod.
package kubernetes

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
