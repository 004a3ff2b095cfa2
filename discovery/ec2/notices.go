package ec2

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// maxEnvelopes bounds how often a message may be wrapped: SNS topics do not nest.
const maxEnvelopes = 3

// unwrap takes a message out of the envelope that SNS puts around it, unless
// its subscription has raw message delivery.
// https://docs.aws.amazon.com/sns/latest/dg/sns-sqs-as-subscriber.html
func unwrap(body []byte) []byte {
	for range maxEnvelopes {
		var envelope struct {
			Type     string `json:"Type"`
			TopicArn string `json:"TopicArn"`
			Message  string `json:"Message"`
		}
		if json.Unmarshal(body, &envelope) != nil || envelope.Type != "Notification" || envelope.TopicArn == "" {
			return body
		}
		body = []byte(envelope.Message)
	}
	return body
}

// The events that Auto Scaling itself sends to SNS and SQS, by lifecycle hooks
// and by notification configurations.
// https://docs.aws.amazon.com/autoscaling/ec2/userguide/prepare-for-lifecycle-notifications.html
// https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-sns-notifications.html
const (
	noticeLaunching   = "autoscaling:EC2_INSTANCE_LAUNCHING"
	noticeTerminating = "autoscaling:EC2_INSTANCE_TERMINATING"
	noticeLaunched    = "autoscaling:EC2_INSTANCE_LAUNCH"
	noticeTerminated  = "autoscaling:EC2_INSTANCE_TERMINATE"
	noticeTest        = "autoscaling:TEST_NOTIFICATION"
	noticeErrors      = "_ERROR"
)

// errHarmless is the error of a known message that concerns no instance that is
// or becomes an endpoint.
var errHarmless = errors.New("it says nothing of an instance that is or becomes an endpoint")

// decodeNotice reads a notice that Auto Scaling has not sent by way of
// EventBridge. It returns neither event nor error for anything else.
func decodeNotice(body []byte) (*event, error) {
	var notice struct {
		Transition string    `json:"LifecycleTransition"`
		Event      string    `json:"Event"`
		Account    string    `json:"AccountId"`
		Time       time.Time `json:"Time"`
		Group      string    `json:"AutoScalingGroupName"`
		GroupARN   string    `json:"AutoScalingGroupARN"`
		Instance   string    `json:"EC2InstanceId"`
	}
	if err := json.Unmarshal(body, &notice); err != nil {
		return nil, nil //nolint:nilerr // it may be something else, which is for others to say
	}
	kind := orElse(notice.Transition, notice.Event)
	if !strings.HasPrefix(kind, "autoscaling:") {
		return nil, nil
	}
	detail, ok := map[string]string{
		noticeLaunching: detailLaunchAction, noticeTerminating: detailTerminateAction,
		noticeLaunched: detailLaunchSuccess, noticeTerminated: detailTerminateSuccess,
	}[kind]
	switch {
	case kind == noticeTest || strings.HasSuffix(kind, noticeErrors):
		return nil, fmt.Errorf("%w: %s", errHarmless, kind)
	case !ok:
		return nil, fmt.Errorf("%w: Auto Scaling's notice %.64q", errForeign, kind)
	case notice.Instance == "":
		return nil, fmt.Errorf("%s: it names no instance", kind)
	case notice.Time.IsZero():
		return nil, fmt.Errorf("%s: it has no time", kind)
	}
	e := &event{detailType: detail, account: notice.Account, at: notice.Time, instance: notice.Instance, group: notice.Group}
	// Hooks do not tell the region; then every one may be meant.
	if parts := strings.SplitN(notice.GroupARN, ":", 5); len(parts) == 5 {
		e.region = parts[3]
	}
	return e, nil
}
