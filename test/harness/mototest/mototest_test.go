package mototest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
)

func TestMoto(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	m := mototest.Start(t, mototest.Options{})
	config := m.Config()
	config.RetryMaxAttempts = 1
	api := ec2.NewFromConfig(config)

	first := m.CreateASG(t, mototest.ASGOptions{Name: "php-web", Size: 3, Tags: map[string]string{"Role": "php-web"}})
	require.Len(t, first, 3)
	zones := map[string]int{}
	for _, i := range first {
		zones[i.Zone]++
		require.Equal(t, "running", i.State)
		require.Equal(t, "php-web", i.Group)
		require.Equal(t, "php-web", i.Tags["Role"])
		require.False(t, i.Spot)
	}
	require.Equal(t, map[string]int{"ap-northeast-1a": 2, "ap-northeast-1c": 1}, zones)

	filtered, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []ec2types.Filter{
		{Name: aws.String("tag:aws:autoscaling:groupName"), Values: []string{"php-web"}},
	}})
	require.NoError(t, err)
	require.Equal(t, 3, count(filtered))

	more := m.ScaleASG(t, "php-web", 5)
	require.Len(t, more, 5)
	require.Equal(t, "php-web", more[4].Tags["Role"])
	require.Len(t, m.ScaleASG(t, "php-web", 2), 2)
	ended := m.Instances(t, first[0].ID)[0]
	require.Equal(t, "terminated", ended.State)
	require.Equal(t, "php-web", ended.Group, "a terminated instance keeps its tags")

	// What moto has no word for.
	groups := autoscaling.NewFromConfig(config)
	spot := m.CreateASG(t, mototest.ASGOptions{Name: "spot", Size: 2, Spot: true})
	require.True(t, spot[0].Spot)
	m.SetLifecycle(spot[1].ID, "Terminating:Wait")
	states := map[string]string{}
	described, err := groups.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{"spot"}})
	require.NoError(t, err)
	for _, i := range described.AutoScalingGroups[0].Instances {
		states[*i.InstanceId] = string(i.LifecycleState)
	}
	require.Equal(t, map[string]string{spot[0].ID: "InService", spot[1].ID: "Terminating:Wait"}, states)

	all, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	require.NoError(t, err)
	m.Hide(spot[0].ID)
	without, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	require.NoError(t, err)
	require.Equal(t, count(all)-1, count(without))
	m.Unhide()

	// The API's faults.
	m.Proxy().Fail(1, mototest.EC2Error(503, "RequestLimitExceeded", "Request limit exceeded."), mototest.Action("DescribeInstances"))
	_, err = api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	require.ErrorContains(t, err, "RequestLimitExceeded")
	m.Proxy().Truncate(300)
	_, err = api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	require.Error(t, err)
	m.Proxy().Restore(t)
	_, err = api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	require.NoError(t, err)
	require.GreaterOrEqual(t, m.Proxy().Calls()["DescribeInstances"], 6)

	who, err := sts.NewFromConfig(config).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	require.NoError(t, err)
	require.NotEmpty(t, *who.Account)

	queue := m.CreateQueue(t, "events")
	m.SendSQS(t, queue, m.SpotInterruption(spot[0].ID))
	received, err := sqs.NewFromConfig(config).ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: aws.String(queue), WaitTimeSeconds: 1})
	require.NoError(t, err)
	require.Len(t, received.Messages, 1)
	require.Contains(t, *received.Messages[0].Body, spot[0].ID)

	pid := m.Process().PID()
	m.Process().Stop()
	harness.RequireGone(t, pid)
	status, err := status(t, m.Endpoint())
	require.NoError(t, err)
	require.Equal(t, http.StatusBadGateway, status)
}

func count(out *ec2.DescribeInstancesOutput) int {
	n := 0
	for _, r := range out.Reservations {
		n += len(r.Instances)
	}
	return n
}

// status asks for a URL.
func status(t *testing.T, url string) (int, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return r.StatusCode, r.Body.Close()
}
