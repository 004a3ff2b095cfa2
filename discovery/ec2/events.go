package ec2

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// The detail types of EventBridge events that say something about instances.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/automating_with_eventbridge.html
// https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-event-reference.html
const (
	detailStateChange      = "EC2 Instance State-change Notification"
	detailSpot             = "EC2 Spot Instance Interruption Warning"
	detailRebalance        = "EC2 Instance Rebalance Recommendation"
	detailLaunchAction     = "EC2 Instance-launch Lifecycle Action"
	detailTerminateAction  = "EC2 Instance-terminate Lifecycle Action"
	detailLaunchSuccess    = "EC2 Instance Launch Successful"
	detailTerminateSuccess = "EC2 Instance Terminate Successful"
	// The same notice of capacity reservations has two names in the documentation:
	// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitor-interruptible-cr.html
	detailReservation   = "EC2 Capacity Reservation Instance Interruption Warning"
	detailInterruptible = "EC2 Interruptible Capacity Reservation Instance Interruption Warning"
)

// detailSources are the known detail types, each with its sender.
var detailSources = map[string]string{
	detailStateChange: "aws.ec2", detailSpot: "aws.ec2", detailRebalance: "aws.ec2",
	detailReservation: "aws.ec2", detailInterruptible: "aws.ec2",
	detailLaunchAction: "aws.autoscaling", detailTerminateAction: "aws.autoscaling",
	detailLaunchSuccess: "aws.autoscaling", detailTerminateSuccess: "aws.autoscaling",
}

// event is a message of EventBridge, as far as it matters here.
type event struct {
	detailType string
	account    string
	region     string
	at         time.Time
	instance   string
	// state of detailStateChange, and the action of detailSpot.
	state, action string
	// group is the auto scaling group of Auto Scaling's events.
	group string
}

// errForeign is the error of a message that is about no instance: an event of
// another kind, or no event of EventBridge at all.
var errForeign = errors.New("no event about an instance")

// decodeEvent reads a message: an event of EventBridge or a notice of Auto
// Scaling, in an envelope of SNS or without. It returns errForeign for a
// message of somebody else, and another error for a broken one of ours.
func decodeEvent(body []byte) (*event, error) {
	body = unwrap(body)
	if e, err := decodeNotice(body); e != nil || err != nil {
		return e, err
	}
	var envelope struct {
		DetailType string          `json:"detail-type"`
		Source     string          `json:"source"`
		Account    string          `json:"account"`
		Time       time.Time       `json:"time"`
		Region     string          `json:"region"`
		Detail     json.RawMessage `json:"detail"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return nil, fmt.Errorf("%w: %w", errForeign, err)
	}
	want, ok := detailSources[envelope.DetailType]
	if !ok || envelope.Source != want {
		return nil, fmt.Errorf("%w: detail-type %.64q from source %.64q", errForeign, envelope.DetailType, envelope.Source)
	}
	var detail struct {
		Instance string `json:"instance-id"`
		State    string `json:"state"`
		Action   string `json:"instance-action"`

		GroupInstance string `json:"EC2InstanceId"`
		Group         string `json:"AutoScalingGroupName"`
	}
	if err := json.Unmarshal(envelope.Detail, &detail); err != nil {
		return nil, fmt.Errorf("%s: detail: %w", envelope.DetailType, err)
	}
	e := &event{
		detailType: envelope.DetailType, account: envelope.Account, region: envelope.Region, at: envelope.Time,
		instance: detail.Instance, state: detail.State, action: detail.Action, group: detail.Group,
	}
	if e.instance == "" {
		e.instance = detail.GroupInstance
	}
	switch {
	case e.instance == "":
		return nil, fmt.Errorf("%s: it names no instance", e.detailType)
	case e.at.IsZero():
		return nil, fmt.Errorf("%s: it has no time", e.detailType)
	}
	return e, nil
}

// signal returns what the event says about the end of its instance, false if nothing.
func (e *event) signal() (k signalKind, reason string, ok bool) {
	at := e.at.UTC().Format(time.RFC3339)
	switch e.detailType {
	case detailSpot:
		return spotInterruption, fmt.Sprintf("%s: EC2 announced at %s that it will %s it", reasonSpot, at, orElse(e.action, "terminate")), true
	case detailReservation, detailInterruptible:
		return spotInterruption, fmt.Sprintf("%s: EC2 announced at %s that it will %s it", reasonReservation, at, orElse(e.action, "terminate")), true
	case detailRebalance:
		return rebalance, reasonRebalance + ": at " + at, true
	case detailStateChange:
		if gone(ec2types.InstanceStateName(e.state)) {
			return leaving, fmt.Sprintf("%s: %s since %s", reasonLeaving, e.state, at), true
		}
	case detailTerminateAction:
		return leaving, fmt.Sprintf("%s: auto scaling group %s terminates it since %s", reasonLeaving, e.group, at), true
	}
	return 0, "", false
}

// news reports whether the event may be about an instance that nobody knows yet.
func (e *event) news() bool {
	switch e.detailType {
	case detailLaunchAction, detailLaunchSuccess:
		return true
	case detailStateChange:
		return e.state == string(ec2types.InstanceStateNameRunning)
	}
	return false
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
