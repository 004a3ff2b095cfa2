// Package resolve turns catalog rows into the model of package policy. It finds
// the meaning of people's objects for a Service, a Gateway or the mesh, decides
// conflicts, and computes statuses and findings (StatusOf, Validate).
//
// It is pure: no clock, no context, no logging, no I/O.
package resolve
