// Package status tells the state of everything: the mesh on one screen, one object and the
// proxies on which it is in force, the endpoints of a Service, and the metrics of these.
package status
