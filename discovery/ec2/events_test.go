package ec2

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// The shapes that AWS documents for its events.
var documentedEvents = map[string]string{
	detailStateChange:      `{"version":"0","id":"7bf73129-1428-4cd3-a780-95db273d1602","detail-type":"EC2 Instance State-change Notification","source":"aws.ec2","account":"123456789012","time":"2026-11-23T12:00:00Z","region":"us-east-1","resources":["arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0"],"detail":{"instance-id":"i-0123456789abcdef0","state":"shutting-down"}}`,
	detailSpot:             `{"version":"0","id":"12345678-1234-1234-1234-123456789012","detail-type":"EC2 Spot Instance Interruption Warning","source":"aws.ec2","account":"123456789012","time":"2026-11-23T12:00:00Z","region":"us-east-2","resources":["arn:aws:ec2:us-east-2a:instance/i-0123456789abcdef0"],"detail":{"instance-id":"i-0123456789abcdef0","instance-action":"terminate"}}`,
	detailReservation:      `{"version":"0","id":"12345678-1234-1234-1234-123456789012","detail-type":"EC2 Capacity Reservation Instance Interruption Warning","source":"aws.ec2","account":"123456789012","time":"2026-11-23T12:00:00Z","resources":["arn:aws:ec2:us-east-2:123456789012:instance/i-0123456789abcdef0"],"region":"us-east-2","detail":{"instance-id":"i-0123456789abcdef0","instance-action":"terminate","instance-termination-time":"2026-11-23T12:02:00Z","azId":"use2-az1"}}`,
	detailInterruptible:    `{"version":"0","id":"12345678-1234-1234-1234-123456789012","detail-type":"EC2 Interruptible Capacity Reservation Instance Interruption Warning","source":"aws.ec2","account":"123456789012","time":"2026-11-23T12:00:00Z","resources":["arn:aws:ec2:us-east-2:123456789012:instance/i-0123456789abcdef0"],"region":"us-east-2","detail":{"instance-id":"i-0123456789abcdef0","instance-action":"terminate","instance-termination-time":"2026-11-23T12:02:00Z","azId":"use2-az1"}}`,
	detailRebalance:        `{"version":"0","id":"12345678-1234-1234-1234-123456789012","detail-type":"EC2 Instance Rebalance Recommendation","source":"aws.ec2","account":"123456789012","time":"2026-11-23T12:00:00Z","region":"us-east-2","resources":["arn:aws:ec2:us-east-2:123456789012:instance/i-0123456789abcdef0"],"detail":{"instance-id":"i-0123456789abcdef0"}}`,
	detailLaunchAction:     `{"version":"0","id":"12345678-1234-1234-1234-123456789012","detail-type":"EC2 Instance-launch Lifecycle Action","source":"aws.autoscaling","account":"123456789012","time":"2026-11-23T12:00:00Z","region":"us-west-2","resources":["arn"],"detail":{"LifecycleActionToken":"87654321-4321-4321-4321-210987654321","AutoScalingGroupName":"my-asg","LifecycleHookName":"my-lifecycle-hook","EC2InstanceId":"i-0123456789abcdef0","LifecycleTransition":"autoscaling:EC2_INSTANCE_LAUNCHING","NotificationMetadata":"additional-info","Origin":"EC2","Destination":"AutoScalingGroup"}}`,
	detailTerminateAction:  `{"version":"0","id":"12345678-1234-1234-1234-123456789012","detail-type":"EC2 Instance-terminate Lifecycle Action","source":"aws.autoscaling","account":"123456789012","time":"2026-11-23T12:00:00Z","region":"us-west-2","resources":["arn"],"detail":{"LifecycleActionToken":"87654321-4321-4321-4321-210987654321","AutoScalingGroupName":"my-asg","LifecycleHookName":"my-lifecycle-hook","EC2InstanceId":"i-0123456789abcdef0","LifecycleTransition":"autoscaling:EC2_INSTANCE_TERMINATING","NotificationMetadata":"additional-info","Origin":"AutoScalingGroup","Destination":"EC2"}}`,
	detailLaunchSuccess:    `{"version":"0","id":"12345678-1234-1234-1234-123456789012","detail-type":"EC2 Instance Launch Successful","source":"aws.autoscaling","account":"123456789012","time":"2026-11-23T12:00:00Z","region":"us-west-2","resources":["arn","arn"],"detail":{"StatusCode":"InProgress","Description":"Launching a new EC2 instance: i-0123456789abcdef0","AutoScalingGroupName":"my-asg","ActivityId":"87654321-4321-4321-4321-210987654321","Details":{"Availability Zone":"us-west-2b","Subnet ID":"subnet-12345678"},"RequestId":"12345678-1234-1234-1234-123456789012","StatusMessage":"","EndTime":"2026-11-23T12:00:00Z","EC2InstanceId":"i-0123456789abcdef0","StartTime":"2026-11-23T12:00:00Z","Cause":"description-text","Origin":"EC2","Destination":"AutoScalingGroup"}}`,
	detailTerminateSuccess: `{"version":"0","id":"12345678-1234-1234-1234-123456789012","detail-type":"EC2 Instance Terminate Successful","source":"aws.autoscaling","account":"123456789012","time":"2026-11-23T12:00:00Z","region":"us-west-2","resources":["arn","arn"],"detail":{"StatusCode":"InProgress","AutoScalingGroupName":"my-asg","EC2InstanceId":"i-0123456789abcdef0"}}`,
}

func TestDecodeDocumentedEvents(t *testing.T) {
	for detailType, body := range documentedEvents {
		e, err := decodeEvent([]byte(body))
		require.NoError(t, err, detailType)
		require.Equal(t, detailType, e.detailType)
		require.Equal(t, "i-0123456789abcdef0", e.instance)
		require.Equal(t, "123456789012", e.account)
		require.Equal(t, time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), e.at)
		_, _, leaves := e.signal()
		require.Equal(t, map[string]bool{detailStateChange: true, detailSpot: true, detailReservation: true, detailInterruptible: true, detailRebalance: true, detailTerminateAction: true}[detailType], leaves, detailType)
	}
}

// Auto Scaling's own notices, and what SNS wraps, mean the same as the events.
func TestDecodeNotices(t *testing.T) {
	wrapped := func(message string) string {
		text, err := json.Marshal(map[string]string{"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-2:123456789012:t", "Message": message})
		require.NoError(t, err)
		return string(text)
	}
	hook := func(transition string) string {
		return `{"LifecycleHookName":"drain","AccountId":"123456789012","RequestId":"r","LifecycleTransition":"` + transition +
			`","AutoScalingGroupName":"php","Service":"AWS Auto Scaling","Time":"2026-11-23T12:00:00.000Z","EC2InstanceId":"i-2","LifecycleActionToken":"t"}`
	}
	notice := func(kind string) string {
		return `{"AccountId":"123456789012","AutoScalingGroupARN":"arn:aws:autoscaling:ap-northeast-1:123456789012:autoScalingGroup:x:autoScalingGroupName/php","AutoScalingGroupName":"php","Service":"AWS Auto Scaling","Event":"` +
			kind + `","Time":"2026-11-23T12:00:00Z","EC2InstanceId":"i-2"}`
	}
	for body, want := range map[string]struct {
		detail, region string
		leaves         bool
	}{
		wrapped(documentedEvents[detailSpot]):          {detailSpot, "us-east-2", true},
		wrapped(wrapped(documentedEvents[detailSpot])): {detailSpot, "us-east-2", true},
		hook(noticeTerminating):                        {detailTerminateAction, "", true},
		wrapped(hook(noticeTerminating)):               {detailTerminateAction, "", true},
		hook(noticeLaunching):                          {detailLaunchAction, "", false},
		wrapped(notice(noticeTerminated)):              {detailTerminateSuccess, "ap-northeast-1", false},
		notice(noticeLaunched):                         {detailLaunchSuccess, "ap-northeast-1", false},
	} {
		e, err := decodeEvent([]byte(body))
		require.NoError(t, err, body)
		require.Equal(t, want.detail, e.detailType, body)
		require.Equal(t, want.region, e.region, body)
		require.Equal(t, "123456789012", e.account)
		_, _, leaves := e.signal()
		require.Equal(t, want.leaves, leaves, body)
	}
	for _, body := range []string{notice(noticeTest), notice(noticeTerminated + noticeErrors)} {
		_, err := decodeEvent([]byte(body))
		require.ErrorIs(t, err, errHarmless, body)
	}
	_, err := decodeEvent([]byte(notice("autoscaling:NEWER")))
	require.ErrorIs(t, err, errForeign)
	_, err = decodeEvent([]byte(strings.Replace(hook(noticeTerminating), "i-2", "", 1)))
	require.ErrorContains(t, err, "names no instance")
}

// What nothing can be made of is told, once in the log, and in a source's note, which is not written for each of them.
func TestMessagesThatAreNotUnderstood(t *testing.T) {
	var log strings.Builder
	s := New(Config{}, slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
	cat := catalog.New()
	s.start(cat)
	now := time.Unix(1_800_000_000, 0)
	foreign := func(kind string) {
		require.NoError(t, s.handle([]byte(`{"detail-type":"`+kind+`","source":"aws.guardduty","detail":{}}`), now))
	}
	note := func() string {
		row, ok := catalog.Sources.Get(cat.Read(), discovery.QueueSource)
		require.True(t, ok)
		return row.Note
	}
	foreign("GuardDuty Finding")
	require.Contains(t, note(), `1 messages were not understood`)
	before := cat.Read().Revision()
	for range 1000 {
		foreign("GuardDuty Finding")
	}
	require.Equal(t, before, cat.Read().Revision())
	require.Equal(t, 1, strings.Count(log.String(), "not understood"))
	foreign("Other")
	require.Contains(t, note(), `1002 messages were not understood and passed over, the last: no event about an instance: detail-type "Other"`)
	for i := range 2 * maxUnknownNotices {
		foreign(fmt.Sprint("Kind ", i))
	}
	require.LessOrEqual(t, cat.Read().Revision(), before+maxUnknownNotices)
	require.Equal(t, maxUnknownNotices, strings.Count(log.String(), "not understood"))
	now = now.Add(noteEvery)
	s.noteUnknown(now, false)
	require.Contains(t, note(), fmt.Sprintf("%d messages were not understood", 1002+2*maxUnknownNotices))
	after := cat.Read().Revision()
	now = now.Add(noteEvery)
	s.noteUnknown(now, false)
	require.Equal(t, after, cat.Read().Revision(), "nothing is new")
}

func TestDecodeForeignAndBrokenEvents(t *testing.T) {
	for _, body := range []string{
		"", "null", "[]", "hello", `{"detail-type":"GuardDuty Finding","source":"aws.guardduty","detail":{}}`,
		`{"detail-type":"EC2 Spot Instance Interruption Warning","source":"com.example","detail":{"instance-id":"i-1"}}`,
		`{"Type":"Notification","Message":"x"}`,
	} {
		_, err := decodeEvent([]byte(body))
		require.ErrorIs(t, err, errForeign, body)
	}
	for _, body := range []string{
		`{"detail-type":"EC2 Spot Instance Interruption Warning","source":"aws.ec2","time":"2026-11-23T12:00:00Z","detail":{}}`,
		`{"detail-type":"EC2 Spot Instance Interruption Warning","source":"aws.ec2","time":"2026-11-23T12:00:00Z"}`,
		`{"detail-type":"EC2 Spot Instance Interruption Warning","source":"aws.ec2","detail":{"instance-id":"i-1"}}`,
		`{"detail-type":"EC2 Spot Instance Interruption Warning","source":"aws.ec2","detail":{"instance-id":7}}`,
	} {
		_, err := decodeEvent([]byte(body))
		require.Error(t, err, body)
		require.NotErrorIs(t, err, errForeign, body)
	}
}

func FuzzHandle(f *testing.F) {
	for _, body := range documentedEvents {
		f.Add([]byte(body))
	}
	f.Add([]byte(`{"detail-type":"EC2 Instance State-change Notification","source":"aws.ec2","time":"9999-12-31T23:59:59Z","detail":{"instance-id":"i-1","state":"running"}}`))
	s := New(Config{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	c := catalog.New()
	s.start(c)
	key := discovery.Key{Namespace: "web", Name: "php"}
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := c.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.Instances.Put(tx, &discovery.InstanceSet{Scope: Scope, Key: key, Endpoints: []discovery.Endpoint{{ID: "i-1"}, {ID: "i-0123456789abcdef0"}}})
			return nil
		})
		require.NoError(t, err)
		now := time.Date(2026, 11, 23, 12, 0, 1, 0, time.UTC)
		require.NoError(t, s.handle(body, now))
		once, _ := catalog.Instances.Get(c.Read(), key.String())
		require.NoError(t, s.handle(body, now))
		twice, ok := catalog.Instances.Get(c.Read(), key.String())
		require.True(t, ok)
		require.Len(t, twice.Endpoints, 2, "an event removes nothing")
		require.Equal(t, once, twice, "a duplicate changes nothing")
	})
}

func TestHandle(t *testing.T) {
	const id = "i-0123456789abcdef0"
	now := time.Date(2026, 11, 23, 12, 0, 1, 0, time.UTC)
	own := accountKey{region: "us-east-2"}
	theirs := accountKey{roleARN: "arn:aws:iam::123456789012:role/causeway", region: "us-east-2"}
	others := accountKey{roleARN: "arn:aws:iam::999999999999:role/causeway", region: "us-east-2"}
	elsewhere := accountKey{region: "eu-west-1"}
	for _, c := range []struct {
		name, body, id string
		drains         string
		wakes          bool
	}{
		{"Spot notice", documentedEvents[detailSpot], id, reasonSpot, true},
		{"Spot notice of an instance of others", documentedEvents[detailSpot], "i-1", "", false},
		{"recommendation", documentedEvents[detailRebalance], id, "", true},
		{"termination hook", strings.Replace(documentedEvents[detailTerminateAction], "us-west-2", "us-east-2", 1), id, reasonLeaving, true},
		{"shutting down", strings.Replace(documentedEvents[detailStateChange], `"us-east-1"`, `"us-east-2"`, 1), id, reasonLeaving, true},
		{"launch", strings.Replace(documentedEvents[detailLaunchSuccess], `"us-west-2"`, `"us-east-2"`, 1), "i-1", "", true},
		{"a notice from a backlog", strings.Replace(documentedEvents[detailSpot], "12:00:00Z", "11:00:00Z", 1), id, "", true},
		{"nothing of ours", `{"detail-type":"x"}`, id, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(Config{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
			cat := catalog.New()
			s.start(cat)
			for _, k := range []accountKey{own, theirs, others, elsewhere} {
				s.accounts[k] = s.newAccount(k)
			}
			group := discovery.Key{Namespace: "web", Name: "php"}
			before := &discovery.InstanceSet{Scope: Scope, Key: group, Endpoints: []discovery.Endpoint{{ID: "i-9"}, {ID: c.id}}}
			_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
				catalog.Instances.Put(tx, before)
				return nil
			})
			require.NoError(t, err)

			require.NoError(t, s.handle([]byte(c.body), now))
			set, _ := catalog.Instances.Get(cat.Read(), group.String())
			require.Len(t, set.Endpoints, 2)
			require.Equal(t, discovery.Healthy, set.Endpoints[0].Health)
			require.Equal(t, c.drains != "", set.Endpoints[1].Health == discovery.Draining, "at once, before any sweep")
			require.Contains(t, set.Endpoints[1].Reason, c.drains)
			require.Equal(t, discovery.Healthy, before.Endpoints[1].Health, "a row that is written is not changed")
			for k, wakes := range map[accountKey]bool{own: c.wakes, theirs: c.wakes, others: false, elsewhere: false} {
				require.Len(t, s.accounts[k].wake, map[bool]int{true: 1}[wakes], k.source())
			}
		})
	}
}

func TestRegionOf(t *testing.T) {
	require.Equal(t, "ap-northeast-1", regionOf("https://sqs.ap-northeast-1.amazonaws.com/123456789012/causeway-events"))
	require.Equal(t, "cn-north-1", regionOf("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/causeway-events"))
	require.Empty(t, regionOf("http://127.0.0.1:5000/123456789012/causeway-events"))
	require.Empty(t, regionOf("::"))
}
