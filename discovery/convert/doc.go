// Package convert turns Kubernetes objects into catalog rows, and published endpoints
// into EndpointSlices. It is pure, and treats objects from an API server and from
// files alike. It checks nothing: package objects does that.
package convert
