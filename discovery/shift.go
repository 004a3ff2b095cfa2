package discovery

import "errors"

// ErrConflict is returned when something was written meanwhile that a write is not based on.
var ErrConflict = errors.New("it has changed since it was read")

// ShiftEvent is something that happened to a TrafficShift, for those who look at the object.
type ShiftEvent struct {
	// Key is the TrafficShift's.
	Key
	// UID of the TrafficShift, "" without Kubernetes.
	UID string
	// Reason is a CamelCase word, Message a sentence.
	Reason, Message string
	// Warning is true for what somebody should look at.
	Warning bool
}

// Autoscaler is a HorizontalPodAutoscaler.
type Autoscaler struct {
	Name string
	// Current is how many replicas there are, Minimum and Maximum how few and how many there may be.
	Current, Minimum, Maximum int
	// Limited is true if it wants more replicas than it may have (condition
	// ScalingLimited, reason TooManyReplicas).
	Limited bool
}

// ScalingGroup is an EC2 Auto Scaling group.
type ScalingGroup struct {
	Name string
	// Minimum, Desired and Maximum are the group's sizes, in Unit; InService is how many of
	// its instances are in the lifecycle state InService.
	Minimum, Desired, Maximum, InService int
	// Unit of the sizes where instances count by their weights, vCPUs or memory: "capacity
	// units", "vCPUs", "MiB". "" where each counts for one. Units is what the instances in
	// service count for together, and Largest the most that one of them does.
	Unit           string
	Units, Largest int
	// Zones is how many availability zones it spans, 0 if that is not known.
	Zones int
}
