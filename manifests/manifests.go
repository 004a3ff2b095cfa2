// Package manifests holds what users apply to a cluster. The program itself
// reads the CRDs among it, to check a file as an API server would.
package manifests

import "embed"

// CRDs are our own CRDs and those of the Gateway API's experimental channel
// that the mesh reads, by their path below this directory.
//
//go:embed crds/*.yaml gateway-api/experimental/*.yaml
var CRDs embed.FS

// Roles are what the control plane may do, as it is installed: without injection, with it, and
// with managed Gateways.
//
//go:embed install/rbac.yaml inject/rbac.yaml gateways/rbac.yaml
var Roles embed.FS
