// Package convert turns Kubernetes objects into catalog rows, and endpoints that
// are published into EndpointSlices. It is pure, and the same for objects from an API
// server and from files. It checks nothing: that does package objects.
package convert
