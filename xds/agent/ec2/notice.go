package ec2

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Reasons of notices, in the words that the control plane has for what EC2 and Auto Scaling tell it.
const (
	SpotInterruption        = "SpotInterruption"
	AutoScalingTerminating  = "AutoScalingTerminating"
	AutoScalingStandby      = "AutoScalingStandby"
	ScheduledEvent          = "ScheduledEvent"
	RebalanceRecommendation = "RebalanceRecommendation"
)

// Notice is something that EC2 or Auto Scaling announces.
type Notice struct {
	// Reason is one of the words above, Text says more.
	Reason string `json:"reason"`
	Text   string `json:"text"`
	// Deadline is when it happens, zero if that is not known.
	Deadline time.Time `json:"deadline,omitzero"`
	// Drains is true if the host is to get nothing new from now on.
	Drains bool `json:"drains"`
	// Action is true if Auto Scaling waits for a lifecycle action to be completed.
	Action bool `json:"-"`
}

const (
	// before is how long before a scheduled event the host drains, and after how long it stays so if nothing happens.
	before, after = 5 * time.Minute, 30 * time.Minute
	// eventTime is how the service writes the times of scheduled events.
	eventTime = "2 Jan 2006 15:04:05 MST"
	// clock is how times are said.
	clock = "2006-01-02 15:04:05 UTC"
)

// Notices asks for all notices that hold at a time. The first is the most urgent.
func (m *Metadata) Notices(ctx context.Context, now time.Time, drainOnRebalance bool) ([]Notice, error) {
	var out []Notice
	for _, source := range []struct {
		path  string
		parse func(text string) ([]Notice, error)
	}{
		{"spot/instance-action", parseSpot},
		{"autoscaling/target-lifecycle-state", parseTarget},
		{"events/maintenance/scheduled", func(text string) ([]Notice, error) { return parseEvents(text, now) }},
		{"events/recommendations/rebalance", func(text string) ([]Notice, error) { return parseRebalance(text, drainOnRebalance) }},
	} {
		text, ok, err := m.get(ctx, source.path)
		if err != nil {
			return nil, err
		}
		if !ok || text == "" {
			continue
		}
		notices, err := source.parse(text)
		if err != nil {
			return nil, fmt.Errorf("the instance metadata service at %s: %s: %w", m.endpoint, source.path, err)
		}
		out = append(out, notices...)
	}
	return out, nil
}

// parseSpot reads a Spot interruption notice.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
func parseSpot(text string) ([]Notice, error) {
	var action struct {
		Action string    `json:"action"`
		Time   time.Time `json:"time"`
	}
	if err := json.Unmarshal([]byte(text), &action); err != nil {
		return nil, err //nolint:wrapcheck // the caller says of what
	}
	if action.Action == "" {
		action.Action = "terminate"
	}
	return []Notice{{
		Reason: SpotInterruption, Drains: true, Deadline: action.Time,
		Text: fmt.Sprintf("EC2 will %s it at %s", action.Action, action.Time.UTC().Format(clock)),
	}}, nil
}

// parseTarget reads the state that Auto Scaling brings the instance to.
// https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html
func parseTarget(state string) ([]Notice, error) {
	switch {
	case state == "Terminated" || strings.HasPrefix(state, "Warmed:"):
		return []Notice{{Reason: AutoScalingTerminating, Text: "its auto scaling group takes it out, to " + state, Drains: true, Action: true}}, nil
	case state == "Standby":
		return []Notice{{Reason: AutoScalingStandby, Text: "its auto scaling group takes it to Standby", Drains: true}}, nil
	}
	return nil, nil
}

// parseEvents reads scheduled events. Those that end the host make it drain shortly before.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_scheduled_events.html
func parseEvents(text string, now time.Time) ([]Notice, error) {
	var events []struct {
		Code      string
		State     string
		NotBefore string
	}
	if err := json.Unmarshal([]byte(text), &events); err != nil {
		return nil, err //nolint:wrapcheck // the caller says of what
	}
	var out []Notice
	for _, e := range events {
		if e.State != "active" {
			continue
		}
		n := Notice{Reason: ScheduledEvent, Text: fmt.Sprintf("EC2 has scheduled %s for %s", e.Code, e.NotBefore)}
		if at, err := time.Parse(eventTime, e.NotBefore); err == nil {
			n.Deadline = at
			n.Drains = e.Code != "system-maintenance" && now.After(at.Add(-before)) && now.Before(at.Add(after))
		}
		out = append(out, n)
	}
	return out, nil
}

// parseRebalance reads a rebalance recommendation.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html
func parseRebalance(text string, drains bool) ([]Notice, error) {
	var r struct {
		Time time.Time `json:"noticeTime"`
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, err //nolint:wrapcheck // the caller says of what
	}
	return []Notice{{
		Reason: RebalanceRecommendation, Drains: drains,
		Text: fmt.Sprintf("EC2 may interrupt it sooner than others, it said at %s", r.Time.UTC().Format(clock)),
	}}, nil
}
