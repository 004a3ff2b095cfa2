// Package resolve turns catalog rows into the model of package policy: what the
// objects that SREs write mean for a Service, a Gateway or the mesh, with
// conflicts decided, and what their statuses and findings say of it (StatusOf,
// Validate). It is pure: no clock, no context, no logging, no I/O.
package resolve
