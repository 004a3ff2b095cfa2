package ec2

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
)

// accountKey names an account and region: what one sweep reads. The account is
// the role to assume, "" for Causeway's own credentials.
type accountKey struct{ roleARN, region string }

// account returns how the account is called in metrics and sources: the role as
// "123456789012:role/name", or "own".
func (k accountKey) account() string {
	if k.roleARN == "" {
		return "own"
	}
	_, rest, _ := strings.Cut(k.roleARN, ":iam::")
	return rest
}

// source returns the name of the SourceStatus row.
func (k accountKey) source() string { return Scope + "/" + k.account() + "/" + k.region }

// number returns the account's number, "" if it is not known.
func (k accountKey) number() string {
	number, _, _ := strings.Cut(k.account(), ":")
	if k.roleARN == "" {
		return ""
	}
	return number
}

// clients are what reads one account and region.
type clients struct {
	ec2         *awsec2.Client
	autoscaling *autoscaling.Client
}

// awsConfig loads credentials and settings from the SDK's standard chain, which
// knows AWS_ENDPOINT_URL too, and assumes the key's role.
func (s *Source) awsConfig(ctx context.Context, key accountKey, client aws.HTTPClient, retryer aws.Retryer) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithRetryer(func() aws.Retryer { return retryer }),
		config.WithLogger(logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
			s.log.Debug("AWS SDK", "message", fmt.Sprintf(format, v...))
		})),
	}
	if key.region != "" {
		options = append(options, config.WithRegion(key.region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return cfg, fmt.Errorf("AWS configuration: %w", err)
	}
	cfg.APIOptions = append(cfg.APIOptions, s.metrics.countCalls(key.account(), cfg.Region))
	if key.roleARN != "" {
		cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), key.roleARN,
			func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "causeway" }))
	}
	return cfg, nil
}

// newRetryer returns a retryer that slows down when it is throttled. It is
// shared by the clients of one account and region, and by nobody else.
func newRetryer(maxBackoff time.Duration) aws.Retryer {
	return retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
		o.StandardOptions = append(o.StandardOptions, func(o *retry.StandardOptions) {
			o.MaxAttempts = 3
			o.MaxBackoff = maxBackoff
			// Sweeps are rare enough. A quota of retries would be used up by a
			// long outage, just when it ends.
			o.RateLimiter = ratelimit.None
		})
	})
}

var instanceID = regexp.MustCompile(`\bi-[0-9a-f]+`)

// Limits of one confirmation, which is repeated with every sweep.
const (
	confirmAtOnce = 100
	confirmRounds = 5
)

// confirm asks EC2 for just these instances and returns those that it calls
// gone, with their states. An instance that is missing from this answer too is
// not confirmed, nor is one that does not exist: another account's API says
// that about all of them. This answer may have the same fault as the first one.
func (c *clients) confirm(ctx context.Context, ids []string) (map[string]string, error) {
	out := make(map[string]string)
	for range confirmRounds {
		if len(ids) == 0 {
			return out, nil
		}
		ask := ids[:min(len(ids), confirmAtOnce)]
		ids = ids[len(ask):]
		a := &answer{instances: make(map[string]*instance)}
		err := a.readInstances(ctx, c.ec2, &awsec2.DescribeInstancesInput{InstanceIds: ask})
		var api smithy.APIError
		switch {
		case err == nil:
			for id, i := range a.instances {
				if gone(i.state) {
					out[id] = "EC2 says it is " + string(i.state)
				}
			}
		case errors.As(err, &api) && api.ErrorCode() == "InvalidInstanceID.NotFound":
			// One unknown id fails the call; the message names the unknown ones.
			unknown := instanceID.FindAllString(api.ErrorMessage(), -1)
			known := slices.DeleteFunc(slices.Clone(ask), func(id string) bool { return slices.Contains(unknown, id) })
			if len(known) < len(ask) {
				ids = append(known, ids...)
			}
		default:
			return out, err
		}
	}
	return out, nil
}

func newClients(cfg aws.Config) *clients {
	return &clients{ec2: awsec2.NewFromConfig(cfg), autoscaling: autoscaling.NewFromConfig(cfg)}
}
