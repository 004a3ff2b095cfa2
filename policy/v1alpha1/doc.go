// Package v1alpha1 holds Causeway's own kinds, group mesh.causeway.dev. They
// exist only for what the Gateway API has no word for. The package is a leaf:
// it knows Kubernetes' API machinery and nothing of Causeway.
//
// +kubebuilder:object:generate=true
// +groupName=mesh.causeway.dev
package v1alpha1
