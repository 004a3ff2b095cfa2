package ec2

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/smithy-go"
)

// heartbeatEvery is how often Auto Scaling is told that the host still drains. The shortest timeout of a hook is 30 seconds.
const heartbeatEvery = 20 * time.Second

// Lifecycle names what Auto Scaling waits for when it takes the instance out.
type Lifecycle struct {
	Metadata *Metadata
	Identity *Identity
	// Group and Hook are the names of the auto scaling group and of its hook for terminating instances.
	Group, Hook string
	Logger      *slog.Logger

	endpoint string // of Auto Scaling in tests
}

// client returns a client with the credentials of the instance's own profile.
func (l *Lifecycle) client(ctx context.Context) (*autoscaling.Client, error) {
	provider := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = l.Metadata.client })
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(l.Identity.Region), config.WithCredentialsProvider(aws.NewCredentialsCache(provider)))
	if err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", err)
	}
	return autoscaling.NewFromConfig(cfg, func(o *autoscaling.Options) {
		if l.endpoint != "" {
			o.BaseEndpoint = &l.endpoint
		}
	}), nil
}

// Hold tells Auto Scaling from time to time that the host still drains, until the context ends.
func (l *Lifecycle) Hold(ctx context.Context) {
	ticker := time.NewTicker(heartbeatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		client, err := l.client(ctx)
		if err == nil {
			_, err = client.RecordLifecycleActionHeartbeat(ctx, &autoscaling.RecordLifecycleActionHeartbeatInput{
				AutoScalingGroupName: &l.Group, LifecycleHookName: &l.Hook, InstanceId: &l.Identity.Instance,
			})
		}
		if err != nil && ctx.Err() == nil {
			l.Logger.Warn("Auto Scaling does not hear that this host still drains", "error", l.explain(err, "autoscaling:RecordLifecycleActionHeartbeat"))
			return
		}
	}
}

// Complete tells Auto Scaling that the host has drained and may go.
func (l *Lifecycle) Complete(ctx context.Context) error {
	client, err := l.client(ctx)
	if err != nil {
		return err
	}
	if _, err := client.CompleteLifecycleAction(ctx, &autoscaling.CompleteLifecycleActionInput{
		AutoScalingGroupName: &l.Group, LifecycleHookName: &l.Hook, InstanceId: &l.Identity.Instance, LifecycleActionResult: aws.String("CONTINUE"),
	}); err != nil {
		return l.explain(err, "autoscaling:CompleteLifecycleAction")
	}
	return nil
}

// explain names the remedy of a refusal.
func (l *Lifecycle) explain(err error, action string) error {
	api, ok := errors.AsType[smithy.APIError](err)
	switch {
	case ok && (strings.HasPrefix(api.ErrorCode(), "AccessDenied") || strings.HasPrefix(api.ErrorCode(), "UnauthorizedOperation")):
		return fmt.Errorf("the instance profile may not do %s: allow it on the auto scaling group %s (%w)", action, l.Group, err)
	case ok && api.ErrorCode() == "ValidationError":
		return fmt.Errorf("no lifecycle action of the hook %s of the auto scaling group %s waits for %s (%w)", l.Hook, l.Group, l.Identity.Instance, err)
	}
	return fmt.Errorf("%s: %w", action, err)
}
